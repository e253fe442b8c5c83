"""What no file of ours may do: unpickle a file, run what a file says, or listen to anybody but this machine."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import dsgd
from dsgd.backends.processes import ChildPlace
from dsgd.backends.supervision import Place, Terms, supervise
from dsgd.run import Run

ROOT = Path(dsgd.__file__).parents[1]
ROOMS = ("dsgd", "topologies", "experiments", "benchmarks")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "os.system", "torch.load", "torch.serialization.load"} | {
    f"yaml.{name}" for name in ("load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all")
}
PIPES = {"dsgd/backends/processes.py"}  # between a process and the children it started, never a file


def imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, `np` for `numpy` and `load` for `torch.load`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dangers(source: str) -> Iterator[str]:
    """What in a file's text could run code that another file holds, by the names under which libraries have it."""
    tree = ast.parse(source)
    names = imported(tree)
    yield from (name for name in names.values() if name.partition(".")[0] in UNPICKLERS)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield from {named(node, names)} & RUNNERS
        if isinstance(node, ast.Call):
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if words.get("shell", "False") != "False":
                yield "shell"
            if words.get("allow_pickle", "False" if named(node.func, names) != "numpy.load" else None) != "False":
                yield "allow_pickle"


def named(node: ast.AST, names: dict[str, str]) -> str:
    first, dot, rest = ast.unparse(node).partition(".")
    return f"{names.get(first, first)}{dot}{rest}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_read_by_what_could_run_code(path: Path) -> None:
    allowed = {"pickle"} if path.relative_to(ROOT).as_posix() in PIPES else set()
    assert set(dangers(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load(path)",
        "import torch as t; t.load(path, weights_only=True)",
        "from torch import load; load(path)",
        "from torch import load as read; list(map(read, paths))",
        "import torch.serialization; torch.serialization.load(path)",
        "from yaml import load; load(text)",
        "import yaml; yaml.unsafe_load(text)",
        "from numpy import load; load(path)",
        "import numpy as np; np.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "from os import system; system(words)",
        "import subprocess; subprocess.run(words, shell=True)",
        "from pickle import loads",
        "import multiprocessing, dill.session",
        "eval(text)",
    ],
)
def test_each_way_to_run_a_file_s_code_is_known(source: str) -> None:
    assert list(dangers(source))


def test_what_runs_no_code_is_none() -> None:
    harmless = (
        "import numpy as np; from yaml import safe_load; model.eval(); np.load(path, allow_pickle=False); json.load(f)"
    )
    assert list(dangers(harmless)) == []


class Watched:
    """A fleet whose processes' listening addresses are looked at while they train."""

    def __init__(self) -> None:
        self.listening: set[str] = set()

    def places(self, count: int, least: int) -> list[Place]:
        children = [ChildPlace() for _ in range(count)]
        threading.Thread(target=self._watch, args=(children,), daemon=True).start()
        return list(children)

    def _watch(self, children: list[ChildPlace]) -> None:
        while any(child.process.is_alive() for child in children):
            for child in children:
                self.listening |= listening(child.process.pid or 0)
            time.sleep(0.02)


def listening(pid: int) -> set[str]:
    """The addresses, as the kernel writes them, on which a process listens."""
    try:
        sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
        tables = [Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    except OSError:
        return set()
    rows = [line.split() for table in tables for line in table]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


def tree(pid: int) -> list[int]:
    """A process and all that it started, as long as it lives; threads may come and go while it looks."""
    found, folder = [pid], Path(f"/proc/{pid}/task")
    with suppress(OSError):
        for thread in folder.iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    found += tree(int(child))
        return found
    return []


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="only Linux says here who listens where")
def test_processes_listen_on_the_loopback_alone(small: Callable[..., Run]) -> None:
    fleet = Watched()
    supervise(fleet, Terms(2, device="cpu"), small(n=4, steps=300, measure_every=300))
    assert fleet.listening == {"0100007F"}
