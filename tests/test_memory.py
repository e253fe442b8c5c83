"""What a run needs, what there is, and whether it ran out."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from dsgd import memory
from dsgd.footprint import layout_of, needed
from dsgd.memory import available, ran_out
from dsgd.optimizers import AdamW, Sgd
from dsgd.run import Run
from dsgd.simulation import check
from dsgd.starts import start_network

if TYPE_CHECKING:
    from pathlib import Path

Make = Callable[..., Run]
CPU = torch.device("cpu")


def test_the_layout_is_known_without_its_memory(small: Make) -> None:
    run = small()
    assert layout_of(run) == start_network(run, check(run)[0], torch.float64, CPU).layout


def test_four_ensembles_the_memories_the_data_and_a_mini_batch(small: Make) -> None:
    matrix, data, batch = 4 * 610 * 8, (64 + 360) * 64 * 8, 4 * 4 * 64 * 8
    assert needed(small()) == 4 * matrix + data + batch
    assert needed(small(batch_size="full")) == 4 * matrix + data
    assert needed(small(optimizer=Sgd(momentum=0.9))) == 5 * matrix + data + batch
    assert needed(small(optimizer=AdamW())) == 6 * matrix + 4 * 8 + data + batch
    assert needed(small(dtype="float32")) * 2 == needed(small())


def test_the_least_of_machine_group_and_limit_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "none")
    there = available(CPU)
    assert there is not None
    assert 0 < there < 2**50
    (group := tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(memory, "CGROUPS", group)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("70000000\n")
    (group / "memory.stat").write_text("anon 40000000\ninactive_file 30000000\n")
    assert available(CPU) == pytest.approx(there, rel=0.2)
    (group / "memory.max").write_text("100000000\n")
    assert available(CPU) == 60_000_000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1000, 1000))
    assert available(CPU) == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_it_is_known_when_memory_ran_out(error: Exception, expected: bool) -> None:
    assert ran_out(error) == expected
