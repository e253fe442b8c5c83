"""The benchmark's arithmetic and its command; how long anything takes is no matter of tests."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.cli import main
from dsgd.shipped import shipped_package


@pytest.fixture
def suite() -> Any:
    shipped_package("benchmarks")
    return import_module("dsgd_benchmarks.suite")


@pytest.fixture
def tiny(suite: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One workload of a moment's length."""
    speed, workloads, memory = (import_module(f"dsgd_benchmarks.{name}") for name in ("speed", "workloads", "memory"))
    monkeypatch.setattr(memory, "PROCESSES", 2)
    monkeypatch.setattr(speed, "WARM_UP", 1)
    monkeypatch.setattr(speed, "LEAST", 2)
    tiny = workloads.Workload(n=4, batch_size=2)
    monkeypatch.setattr(suite, "BRIEF", (tiny,))
    return tiny


def test_a_command_gives_the_figures_and_writes_them(tiny: Any, tmp_path: Path, capsys: Any) -> None:
    assert main(["bench", "--seconds", "0.01", "--json", "--out", str(tmp_path / "figures")]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)["rows"]
    assert row["over_floor"] == pytest.approx(row["seconds"]["ours"] / row["floor"])
    assert row["floor"] == pytest.approx(row["seconds"]["kernels"] + 1.5 * row["seconds"]["copy"])
    assert set(row["times_faster_than"]) == {"paper's loop", "sparse loop"}
    assert 0 < row["peak_over_ensemble"] <= row["worst_peak_over_ensemble"]
    assert "x floor" in err
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"speed.json", "speed.md"}


def test_what_cannot_be_timed_is_refused(capsys: Any) -> None:
    assert main(["bench", "--seconds", "0"]) == 2
    assert "--seconds: 0 given" in capsys.readouterr().err


def test_the_contenders_do_the_same_work(tiny: Any) -> None:
    """One round of the sparse loop moves every replica as our step does."""
    speed, loops = (import_module(f"dsgd_benchmarks.{name}") for name in ("speed", "loops"))
    simulation = speed.simulation_of(tiny)
    modules: list[Any] = []
    original, loops.fresh_module = loops.fresh_module, lambda s: modules.append(original(s)) or modules[-1]
    try:
        step = loops.sparse_loop(simulation)
    finally:
        loops.fresh_module = original
    step()
    world = simulation.advance(simulation.start())
    found = torch.stack([torch.cat([leaf.detach().flatten() for leaf in module.parameters()]) for module in modules])
    torch.testing.assert_close(found, world.ensemble.params.matrix, rtol=1e-5, atol=1e-6)


def test_the_ways_that_are_compared_do_the_same(suite: Any) -> None:
    """On a small workload, each comparison's steps return the same numbers."""
    ways, speed, workloads = (import_module(f"dsgd_benchmarks.{name}") for name in ("ways", "speed", "workloads"))
    simulation = speed.simulation_of(workloads.Workload(n=4, batch_size=2))
    for steps in (
        ways._gradients(simulation, "vmapped", "stacked"),
        ways._mixing(simulation, *ways.MIXING),
        ways._rows(simulation),
    ):
        first, *others = (step() for step in steps.values())
        for each in others:
            torch.testing.assert_close(each, first)
