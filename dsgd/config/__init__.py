"""YAML and `a.b=c` overrides -> Run, and every error a user can make: all at once, each in one line.

Strings become objects here and nowhere else, by tables of names: a configuration never names a Python object.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dsgd.algorithms import ALGORITHMS
from dsgd.backends import BACKENDS, Backend
from dsgd.config.checks import check_run
from dsgd.config.overrides import with_overrides
from dsgd.config.parts import Read, built, knob_readers, named, part, part_list, plain
from dsgd.config.plugins import named_plugins
from dsgd.config.problems import ConfigError, attempted, choice, collected, refuse, refused, shown
from dsgd.config.topology import read_topology
from dsgd.data import PARTITIONS
from dsgd.keeping import ON_FULL_DISK, Keeping
from dsgd.plugins import recorded
from dsgd.results import valid_name
from dsgd.run import DTYPES, PARTS, TWINS, Run
from dsgd.tasks import TASKS, Task
from dsgd.yaml_values import dotted, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Config", "ConfigError", "backend_of", "changes", "content_of", "load", "load_config", "parse", "read"]
__all__ += ["resolved"]

BESIDE_RUN = (
    "name",
    "checkpoint_every",
    "on_full_disk",
    "backend",
    "plugins",
)  # keys of a configuration that say nothing of the result


@dataclass(frozen=True)
class Config:
    """A run, its name, where it is computed, and how it is kept meanwhile."""

    name: str
    run: Run
    backend: Backend
    keeping: Keeping


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Run:
    """The run that a YAML file and `a.b=c` overrides describe; ConfigError with all that is wrong with them."""
    return load(path, overrides).run


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a file, or in the overrides alone, checked also against its graph, data and files."""
    given = {} if path is None else content_of(Path(path))
    given, problems = with_overrides(given, overrides)
    stem = None if path is None else Path(path).stem
    values, more = attempted({"config": lambda: read(given, stem)})
    if problems or more:
        raise ConfigError(*problems, *more)
    config: Config = values["config"]
    check_run(config.run)
    return config


def parse(given: Mapping[str, Any]) -> Run:
    """The run that plain values describe, as `Run.describe` writes them, not yet checked as `check_run` does."""
    return read(given).run


def read(given: Mapping[str, Any], stem: str | None = None) -> Config:
    """The configuration that plain values describe, named after `stem` or the task where they do not say."""
    named_plugins(given)  # without them the names of their parts would be complained of
    of_run = {key: value for key, value in given.items() if key not in BESIDE_RUN}
    values = collected(
        {
            "run": lambda: _run(of_run),
            "keeping": lambda: _keeping(given),
            "backend": lambda: _backend(given),
            "name": lambda: _name(given["name"]) if "name" in given else None,
        }
    )
    name = values["name"] or _name_like(stem or PARTS[type(values["run"].task.data)])
    return Config(name, values["run"], values["backend"], values["keeping"])


def resolved(config: Config) -> dict[str, Any]:
    """The configuration in full, as plain values that `read` turns into an equal one."""
    backend: Any = config.backend
    name = next(name for name, kind in BACKENDS.items() if type(backend) is kind)
    where = {"backend": {"name": name, **asdict(backend)}}
    return {"name": config.name, **config.run.describe(), **asdict(config.keeping), **where, **recorded()}


def changes(settings: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The fields of a study's settings that `a=b` overrides change, read by their types; ConfigError as for a run."""
    given, problems = with_overrides({}, overrides)
    names = [f.name for f in fields(settings)]
    untouched = [name for name in names if name not in given]
    values, more = attempted(knob_readers(type(settings), given, "", {}, untouched, names))
    if problems or more:
        raise ConfigError(*problems, *more)
    return values


def backend_of(overrides: Sequence[str]) -> Backend:
    """The backend that overrides such as `backend=ray` and `backend.actors=4` describe; ConfigError as for a run."""
    given, problems = with_overrides({}, overrides)
    values, more = attempted({"backend": lambda: _backend(given)})
    if problems or more:
        raise ConfigError(*problems, *more)
    backend: Backend = values["backend"]
    return backend


def _backend(given: Mapping[str, Any]) -> Any:
    return part(BACKENDS, "local", given.get("backend", {}), "backend")


def content_of(path: Path) -> dict[str, Any]:
    """The mapping in a file."""
    try:
        content = read_file(path)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(content, dict):
        found = "an empty file" if content is None else f"{_kind(content)} at the top level"
        refuse(str(path), f"{found}; write a mapping with at least a task, such as `task: digits`")
    return content


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else shown(value)


def _name(given: Any) -> str:
    try:
        return valid_name(plain(str, given, "name"))
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"name: {error}") from None


def _name_like(stem: str) -> str:
    """A run's name from a file's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "run"


def _keeping(given: Mapping[str, Any]) -> Keeping:
    special: dict[str, Read] = {"checkpoint_every": _every, "on_full_disk": partial(choice, ON_FULL_DISK)}
    return Keeping(**collected({key: partial(special[key], given[key], key) for key in special if key in given}))


def _every(given: Any, path: str) -> int:
    every: int = plain(int, given, path)
    if every < 0:
        refuse(path, f"{every} given; it must be at least 0 (0: only where the run is stopped)")
    return every


def _run(given: Mapping[str, Any]) -> Run:
    special: dict[str, Read] = {
        "task": _task,
        "topology": read_topology,
        "twins": partial(part_list, TWINS),
        "algorithm": partial(choice, ALGORITHMS),
        "dtype": partial(choice, DTYPES),
        "batch_size": partial(plain, int | Literal["full"]),
    }
    values, problems = attempted(knob_readers(Run, given, "", special, (), BESIDE_RUN))
    if "task" not in given:
        problems.append(f"task: missing; allowed are {', '.join(TASKS)}")
    problems += _refusals(values)
    if problems:
        raise ConfigError(*problems)
    return Run(**values)


def _refusals(values: Mapping[str, Any]) -> list[str]:
    """What a Run says against these values; the one it names is then left out, to hear what it says of the others."""
    try:
        Run(**values)
    except ValueError as error:
        (problem,) = refused(error, "", values).problems
        others = {key: value for key, value in values.items() if key != re.split("[.:]", problem)[0]}
        return [problem, *(_refusals(others) if len(others) < len(values) else [])]
    return []


def _task(given: Any, path: str) -> Task:
    name, knobs = named(TASKS, None, given, path)
    partition = knobs.pop("partition", {})
    parts = {
        "data": partial(built, TASKS[name], knobs, path, also=("partition",)),
        "partition": partial(part, PARTITIONS, "iid", partition, dotted(path, "partition")),
    }
    return Task(**collected(parts))
