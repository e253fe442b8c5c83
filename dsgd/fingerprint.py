"""Run + code + data -> the stable key of its result."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.plugins import carried

if TYPE_CHECKING:
    from dsgd.run import Run

OURS = ("dsgd", "topologies")
SHIPPED = ("_experiments", "_benchmarks")  # within a wheel, beside our sources


def key(run: Run) -> str:
    """Hex digest of the run's value, our sources, its data and files, and torch's major.minor version."""
    parts = [repr(run), source_digest(), torch_series(), *_data(run), *own_sources(run)]
    parts += [_digest_of_file(path) for path in run.files()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def origin(run: Run) -> dict[str, str]:
    """What a checkpoint remembers of its run: digests of the run's description, its data and files, and our sources."""
    described = json.dumps(run.describe(), sort_keys=True)
    own = hashlib.sha256("\n".join(own_sources(run)).encode()).hexdigest()[:12] if own_sources(run) else ""
    return {
        "run": hashlib.sha256(described.encode()).hexdigest(),
        "data": data_digest(run),
        "sources": f"{source_digest()} with torch {torch_series()}{f' and own parts {own}' if own else ''}",
    }


def data_digest(run: Run) -> str:
    """SHA-256 over the data sets and the user's files that a run reads; FileNotFoundError where one is missing."""
    data = [*_data(run), *(_digest_of_file(path) for path in run.files())]
    return hashlib.sha256("\n".join(data).encode()).hexdigest()


def own_sources(run: Run) -> list[str]:
    """The hashes of the files, other than ours, that define what the run is made of; a plug-in's as it was loaded."""
    plugins = {plugin.name: plugin.sha256 for plugin in carried()}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted({*_modules(run)})}
    return [plugins.get(name) or _digest_of_file(Path(file)) for name, file in files.items() if file]


def _modules(value: Any) -> Iterator[str]:
    """The modules, other than ours, of all parts in a run, and of the functions that a topology names."""
    from topologies import GRAPHS, WEIGHTS, Topology

    if isinstance(value, tuple):
        for item in value:
            yield from _modules(item)
    elif is_dataclass(value):
        named = (GRAPHS.get(value.graph), WEIGHTS.get(value.weights)) if isinstance(value, Topology) else ()
        for defined in (type(value), *filter(None, named)):
            if defined.__module__.partition(".")[0] not in OURS:
                yield defined.__module__
        for f in fields(value):
            yield from _modules(getattr(value, f.name))


def _data(value: Any) -> Iterator[str]:
    """The hash of every data set in the run: what is trained on, before and in it, and what metrics read."""
    if hasattr(value, "load"):
        yield value.load().sha256
    elif isinstance(value, tuple):
        for item in value:
            yield from _data(item)
    elif is_dataclass(value):
        for f in fields(value):
            yield from _data(getattr(value, f.name))


@cache
def source_digest() -> str:
    """SHA-256 over every .py file of `dsgd` and `topologies`."""
    import topologies

    digest = hashlib.sha256()
    for package in (Path(__file__).parent, Path(topologies.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            inside = path.relative_to(package)
            if inside.parts[0] not in SHIPPED:
                digest.update(f"{package.name}/{inside.as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def torch_series() -> str:
    """torch's major.minor version."""
    return ".".join(version("torch").split(".")[:2])


def _digest_of_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
