"""A run's folder: what a run was asked, on what machine, what it measured and where it ended, in files anyone can read.

    config.yaml  env.json  metrics.jsonl  events.jsonl  snapshots/step-000200.safetensors  ensemble.safetensors
    summary.json  checkpoints/ckpt-000200 (see dsgd.checkpoints)

Only YAML, JSON and safetensors, nothing that can run code when it is read. JSON never holds NaN: what is not finite is
null. `summary.json` is written last and in one piece, so a folder without it is an unfinished run.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.atomic import flush_file, write_atomically
from dsgd.divergence import Diverged
from dsgd.locks import LOCK
from dsgd.plain_files import json_in, json_of, text_of
from dsgd.snapshots import read_leaves, snapshot_path, write_leaves
from dsgd.yaml_values import to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

Row = dict[str, Any]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
METRICS, EVENTS = "metrics.jsonl", "events.jsonl"
ENSEMBLE = "ensemble.safetensors"
RECORDED_VERSIONS = ("dsgd", "torch", "numpy", "networkx", "scipy", "numba", "ray")


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run while it is being written; an observer of the loop."""

    path: Path

    @classmethod
    def create(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        *,
        device: str = "auto",
        computed_on: Mapping[str, object] | None = None,
    ) -> RunFolder:
        """A new folder holding the resolved config and the machine, this one unless told; parents are made.

        FileExistsError when `path` is something other than an absent or empty folder; nothing is written then.
        """
        folder = cls(Path(path))
        refuse_occupied(folder.path)
        texts = {
            "env.json": to_json(dict(computed_on or environment(device)), indent=2) + "\n",
            METRICS: "",
            EVENTS: "",
            "config.yaml": to_text(jsonable(dict(config))),  # last: where it is, all are
        }
        folder.path.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder.path / name, text)
        folder.event("started")
        return folder

    def stepped(self, step: int) -> None:
        """Nothing: a step leaves no trace on disk."""

    def measured(self, row: Mapping[str, object]) -> None:
        self._append(METRICS, row)

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        write_leaves(snapshot_path(self.path, step), params)

    def event(self, event: str, **details: object) -> None:
        """One line in events.jsonl: the time in UTC, what happened, and its details."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._append(EVENTS, {"time": now, "event": event, **details})

    def flush(self) -> None:
        """What was measured and what happened is on disk when this returns."""
        for name in (METRICS, EVENTS):
            flush_file(self.path / name)

    def rewind(self, step: int) -> None:
        """Drops what a run that goes on from `step` will say again, and lines that a crash cut.

        That is the rows measured later, and the one that it diverged. ValueError names the file and line that is not a
        row, or has no step; OSError where one is not there. Nothing is written then.
        """
        rows = read_history(self.path)
        steps = [_step(self.path / METRICS, *row) for row in enumerate(rows, start=1)]
        lines = zip(_whole_lines(self.path / METRICS), rows, steps, strict=True)
        kept = "".join(line for line, row, done in lines if done <= step and "diverged" not in row)
        happened = "".join(_whole_lines(self.path / EVENTS))  # read before anything is written
        write_atomically(self.path / METRICS, kept)
        write_atomically(self.path / EVENTS, happened)

    def finish(self, params: Mapping[str, Tensor], **facts: object) -> dict[str, Any]:
        """Write the final ensemble (leaves (n, ...)), then the summary: status ok, `facts`, the last measured row."""
        write_leaves(self.path / ENSEMBLE, params)
        history = read_history(self.path)
        return self._close("ok", {**facts, "metrics": history[-1] if history else {}})

    def fail(self, error: BaseException, **facts: object) -> dict[str, Any]:
        """Write the summary of a run that ended by `error`: status failed, the error in words, `facts`.

        One that diverged says `diverged_after` how many steps, and has a last row {step, diverged: 1.0}. Of a
        KeyboardInterrupt the status is interrupted, and there is no error to tell of. Where it cannot be written, as on
        a full disk, it is returned all the same and says why in `unwritten`: how the run ended is not to be lost.
        """
        interrupted = isinstance(error, KeyboardInterrupt)
        status, facts = ("interrupted", facts) if interrupted else ("failed", {"error": describe_error(error), **facts})
        if isinstance(error, Diverged):
            facts |= {"diverged_after": error.step}
        try:
            if isinstance(error, Diverged):
                self.measured(error.row())
            return self._close(status, facts)
        except OSError as full:
            return self._summary(status, {**facts, "unwritten": full.strerror or str(full)})

    def _summary(self, status: str, facts: Mapping[str, object]) -> dict[str, Any]:
        return dict(jsonable({"status": status, "run_dir": str(self.path), **facts}))

    def _close(self, status: str, facts: Mapping[str, object]) -> dict[str, Any]:
        summary = self._summary(status, facts)
        self.event("finished" if status == "ok" else status, **{k: v for k, v in facts.items() if k == "error"})
        write_atomically(self.path / "summary.json", to_json(summary, indent=2) + "\n")
        return summary

    def _append(self, name: str, row: Mapping[str, object]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as lines:
            lines.write(to_json(row) + "\n")


def read_history(path: str | Path) -> list[Row]:
    """The measured rows of a run's folder, oldest first. ValueError names the file and line that is not a row.

    A last line without its end was cut by a crash, and is left out.
    """
    return _rows(Path(path) / METRICS)


def read_events(path: str | Path) -> list[Row]:
    """What happened in a run's folder, oldest first; as `read_history` otherwise."""
    return _rows(Path(path) / EVENTS)


def read_summary(path: str | Path) -> dict[str, Any]:
    """The summary of a run's folder. FileNotFoundError: the run is not finished; ValueError: the file is damaged."""
    return json_in(Path(path) / "summary.json")


def read_environment(path: str | Path) -> dict[str, Any]:
    """The machine on which a run was computed, as `environment` found it."""
    return json_in(Path(path) / "env.json")


def read_ensemble(path: str | Path, step: int | None = None) -> dict[str, Tensor]:
    """The final ensemble of a run's folder, or its snapshot after `step` steps: leaves (n, ...), on the CPU."""
    return read_leaves(Path(path) / ENSEMBLE if step is None else snapshot_path(Path(path), step))


def default_folder(name: str) -> Path:
    """`runs/NAME-TIME`, a folder that does not exist yet. ValueError for a name that could leave `runs`."""
    stem = f"{valid_name(name)}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    candidates = (Path("runs") / (stem if again == 1 else f"{stem}-{again}") for again in range(1, 1000))
    return next(folder for folder in candidates if not folder.exists())


def valid_name(name: str) -> str:
    """`name` itself when it can name a folder, else ValueError."""
    if not NAME.fullmatch(name):
        allowed = "1 to 100 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise ValueError(f"{name!r} cannot name a folder: allowed are {allowed}")
    return name


def refuse_occupied(path: Path) -> None:
    """FileExistsError unless `path` is absent or a folder with nothing but a lock; a link may lead anywhere."""
    if path.is_symlink():
        raise FileExistsError(f"{path} is a symbolic link: give a folder")
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file: give a new or empty folder")
    if path.is_dir() and any(inside.name != LOCK for inside in path.iterdir()):
        raise FileExistsError(f"{path} is not empty: give a new or empty folder")


def environment(device: str = "auto") -> dict[str, Any]:
    """What of this machine can bear on a result. An allow-list: no environment variable, no path, no host name."""
    import torch

    return {**machine(), "threads": torch.get_num_threads(), "device": _device_name(device), "versions": versions()} | {
        "git": git_commit()
    }


def machine() -> dict[str, Any]:
    """Python's version, the platform, and the number of CPUs, without importing torch."""
    return {"python": platform.python_version(), "platform": platform.platform(), "cpus": os.cpu_count()}


def versions() -> dict[str, str | None]:
    """Installed versions of the packages that decide a result; None for one run from its sources."""
    return {"python": platform.python_version(), **{name: _version(name) for name in RECORDED_VERSIONS}}


@cache
def git_commit() -> str | None:
    """The commit of the sources dsgd runs from, with `-dirty` when they were changed; None when not a checkout."""
    root = checkout()
    if root is None:
        return None
    git = ["git", "--no-optional-locks", "-C", str(root)]  # `describe --dirty` would rewrite the user's index
    head = _answered([*git, "rev-parse", "HEAD"])
    changed = _answered([*git, "status", "--porcelain", "--untracked-files=no"])
    if head is None or changed is None:
        return None
    return f"{head}-dirty" if changed else head


def _answered(command: list[str]) -> str | None:
    """What a command prints, None where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def checkout() -> Path | None:
    """The project's folder when dsgd is imported from its sources, None when from a wheel."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "experiments").is_dir() else None


def to_json(value: object, *, indent: int | None = None) -> str:
    return json.dumps(jsonable(value), indent=indent, allow_nan=False, ensure_ascii=False)


def jsonable(value: Any) -> Any:
    """`value` in JSON's types: NaN and infinities become None, NumPy and torch numbers plain ones, paths strings."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return jsonable(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def describe_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _whole_lines(file: Path) -> list[str]:
    """The lines of a file that have their end."""
    return [f"{line}\n" for line in text_of(file).split("\n")[:-1]]


def _rows(file: Path) -> list[Row]:
    return [_row(file, number, line) for number, line in enumerate(_whole_lines(file), start=1)]


def _row(file: Path, number: int, text: str) -> dict[str, Any]:
    row = json_of(text, f"{file}, line {number}")
    if not isinstance(row, dict):
        raise ValueError(f"{file}, line {number}, is not a JSON object")
    return row


def _step(file: Path, number: int, row: Row) -> int:
    if not isinstance(step := row.get("step"), int):
        raise ValueError(f"{file}, line {number}, has no step that is a whole number")
    return step


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return getattr(sys.modules.get(package), "__version__", None)


def _device_name(device: str) -> str:
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda ({torch.cuda.get_device_name(None if device in ('auto', 'cuda') else device)})"
