"""What no file of ours may do: unpickle a file, run what a file says, or listen to anybody but this machine."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable, Iterator
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
PIPES = {"dsgd/backends/processes.py"}  # between a process and the children it started, never a file


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_read_by_what_could_run_code(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    assert not imported(path) & UNPICKLERS or name in PIPES
    for function, call in calls(path):
        assert function not in ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system"), name
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert words.get("shell") != "True", name
        assert words.get("allow_pickle", "False") == "False", name
        if function in ("np.load", "numpy.load"):
            assert words["allow_pickle"] == "False"


class Watched:
    """A fleet whose processes' listening addresses are looked at while they train."""

    def __init__(self) -> None:
        self.listening: set[str] = set()

    def places(self, count: int) -> list[Place]:
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


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="only Linux says here who listens where")
def test_processes_listen_on_the_loopback_alone(small: Callable[..., Run]) -> None:
    fleet = Watched()
    supervise(fleet, Terms(2, device="cpu"), small(n=4, steps=300, measure_every=300))
    assert fleet.listening == {"0100007F"}
