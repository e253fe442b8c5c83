"""What a run's folder tells of a run, finished or not: its configuration, measurements, events, machine, ensemble."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.locks import Busy, refuse_busy
from dsgd.results import Row, read_environment, read_events, read_history, read_summary
from dsgd.yaml_values import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping


CONFIG = "config.yaml"
BESIDE_METRICS = ("step", "diverged")


@dataclass(frozen=True)
class Record:
    """A run's folder as it was read; `summary` is empty where the run has not ended, or was killed."""

    path: Path
    config: dict[str, Any]
    rows: list[Row]
    events: list[Row]
    environment: dict[str, Any]
    summary: dict[str, Any]
    running: bool

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def status(self) -> str:
        """ok, failed or interrupted as the summary has it; running; or unfinished, of a run that was killed."""
        return "running" if self.running else str(self.summary.get("status", "unfinished"))

    @property
    def steps(self) -> int:
        """Steps done, as far as is known: the summary's, or those of the last measurement."""
        done = 0 if self.running else self.summary.get("steps")
        return done if isinstance(done, int) and done else int(self.rows[-1]["step"]) if self.rows else 0

    def latest(self) -> dict[str, tuple[Any, int]]:
        """Each column's newest value that is not missing, and the step it is of."""
        found: dict[str, tuple[Any, int]] = {}
        for row in self.rows:
            new = {name: (value, row["step"]) for name, value in row.items() if name not in BESIDE_METRICS}
            found |= {name: pair for name, pair in new.items() if pair[0] is not None or name not in found}
        return found

    def newest(self, column: str) -> float | None:
        """The newest value of a column as a number; None where it has none."""
        return number_in(self.latest().get(column, (None, 0))[0])


def read_record(path: Path) -> Record:
    """The run in a folder. FileNotFoundError where there is none, ValueError naming the file that is damaged."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; give the folder of a run")
    if lacking := [name for name in (CONFIG, "metrics.jsonl") if not (path / name).is_file()]:
        raise FileNotFoundError(f"{path} is not the folder of a run: it lacks {' and '.join(lacking)}")
    config, rows = read_file(path / CONFIG), read_history(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path / CONFIG} holds no configuration; give the folder of a run")
    for number, row in enumerate(rows, start=1):
        if type(row.get("step")) is not int:
            raise ValueError(f"{path / 'metrics.jsonl'}, line {number}, has no step that is a whole number")
    events, environment, summary = (_or_nothing(read, path) for read in (read_events, read_environment, read_summary))
    return Record(path, config, rows, events or [], environment or {}, summary or {}, is_running(path))


def is_running(path: Path) -> bool:
    """Whether a process is at work in the folder."""
    try:
        refuse_busy(path)
    except Busy:
        return True
    except OSError:
        return False
    return False


def number_in(value: Any) -> float | None:
    """A finite number, or None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    with suppress(OverflowError):
        return float(value) if math.isfinite(value) else None
    return None


def _or_nothing(read: Any, path: Path) -> Any:
    """What a file of the folder says, None where it is not there (yet) or damaged."""
    with suppress(OSError, ValueError):
        return read(path)
    return None


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names; of a list of parts each under its name, as `metrics.curvature.every`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = value if isinstance(value, dict) else _by_name(value)
        found |= flat(inner, f"{above}{name}.") if inner else {f"{above}{name}": value}
    return found


def _by_name(parts: Any) -> dict[str, Any]:
    """The parts in a list by their names; empty where it is no such list, or a name comes twice."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "name" in part for part in parts):
        return {}
    named = {str(part["name"]): part for part in parts}
    return named if len(named) == len(parts) else {}
