"""What the tests share: small runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd import cli, plugins
from dsgd.data import Digits
from dsgd.metrics import Consensus
from dsgd.models import Mlp
from dsgd.registry import KINDS
from dsgd.run import PARTS, Run
from dsgd.tasks import Task
from topologies import Static, Topology


@pytest.fixture(autouse=True)
def _one_start() -> None:
    torch.manual_seed(0)


Dsgd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dsgd_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dsgd:
    """The exit status, stdout and stderr of a command run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DSGD_DATA", raising=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return status, out, err

    return command


@pytest.fixture
def own_parts() -> Iterator[None]:
    """What is registered and loaded meanwhile is forgotten."""
    tables = [PARTS, plugins._CARRIED, *(kind.table for kind in KINDS.values())]
    before, modules = [dict(table) for table in tables], set(sys.modules)
    yield
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    for name in set(sys.modules) - modules:
        if name.startswith(("dsgd_plugins.", "dsgd_experiments.")):
            del sys.modules[name]


@pytest.fixture
def small() -> Callable[..., Run]:
    """A 20-step float64 run of four replicas on 64 digits, with any field replaced."""

    def make(graph: str = "ring", n: int = 4, **fields: Any) -> Run:
        defaults: dict[str, Any] = {
            "task": Task(Digits(train_size=64)),
            "model": Mlp((8,)),
            "topology": Static(Topology(graph, n)),
            "batch_size": 4,
            "steps": 20,
            "dtype": "float64",
            "metrics": (Consensus(),),
        }
        return Run(**(defaults | fields))

    return make
