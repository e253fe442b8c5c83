"""Folders that dsgd wrote: which there are, of what kind, how each stands, and how to go on with it.

Nothing is trained, loaded or written: configurations, summaries and rows are read as the plain values they are.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsgd.cli.sweeping import MARK as SWEEP
from dsgd.config.problems import ConfigError
from dsgd.locks import Busy, refuse_busy
from dsgd.plain_files import json_in
from dsgd.results import METRICS, read_history, read_summary
from dsgd.study import MARK as STUDY
from dsgd.yaml_values import read_file

MARKS = {"study": STUDY, "sweep": SWEEP, "run": "config.yaml"}
DEEPEST = 4  # folders below the one that is listed
WRITTEN = ("summary.json", SWEEP, METRICS)  # whose age is that of a folder

Facts = dict[str, Any]


def kind_of(folder: Path) -> str | None:
    """Whether it is the folder of a run, a sweep or a study; None where it is none of them."""
    return next((kind for kind, mark in MARKS.items() if (folder / mark).is_file()), None)


def listed(root: Path) -> list[Facts]:
    """How each run, sweep and study below `root` stands, the latest last; of a sweep or a study, its runs.

    ConfigError where there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"{root}: no such folder; give one that holds runs (dsgd run writes into runs/)")
    start = root / "runs" if kind_of(root) in ("study", "sweep") else root
    busy = start != root and _busy(root)
    found = [facts(folder, busy) for folder in _folders(start, DEEPEST)] if start.is_dir() else []
    return sorted(found, key=lambda one: -one["age_seconds"])


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folders of a kind, those inside another's left out; no link is followed."""
    if kind_of(folder):
        yield folder
    elif depth:
        for inside in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if inside.is_dir(follow_symlinks=False) and not inside.name.startswith("."):
                yield from _folders(Path(folder, inside.name), depth - 1)


def facts(folder: Path, busy: bool = False) -> Facts:
    """What is known of a folder of a kind; `busy` where its runs are being trained by who holds a folder above."""
    kind = kind_of(folder)
    known = {"run": _of_run, "sweep": _of_sweep, "study": _of_study}
    if kind is None:
        raise ConfigError(f"{folder} holds no run, sweep or study; dsgd runs lists those that are there")
    found: Facts = {"folder": str(folder), "kind": kind, "age_seconds": _age(folder)}
    try:
        found |= known[kind](folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        found |= {"status": "damaged", "error": str(error), "metrics": {}}
    if found["status"] == "unfinished" and (busy or _busy(folder)):
        found["status"] = "running"
    return found | {"next": _next(folder, found)}


def _of_run(folder: Path) -> Facts:
    asked, rows = read_file(folder / "config.yaml"), read_history(folder)
    measured = [row for row in rows if "diverged" not in row]
    found: Facts = {"config": asked, "of_steps": asked["steps"], "metrics": measured[-1] if measured else {}}
    if _busy(folder) or not (folder / "summary.json").is_file():
        return {"status": "unfinished", "steps": rows[-1]["step"] if rows else 0} | found
    summary = read_summary(folder)
    told = ("seconds", "replica_steps_per_second", "error", "diverged_after", "resumed_at", "bytes_crossed", "dropped")
    found |= {name: summary[name] for name in told if name in summary}
    done = summary.get("steps", summary.get("diverged_after", rows[-1]["step"] if rows else 0))
    return {"status": "diverged" if "diverged_after" in summary else str(summary["status"]), "steps": done} | found


def _of_sweep(folder: Path) -> Facts:
    summary = json_in(folder / SWEEP)
    runs = len(summary["runs"]) if "runs" in summary else _count(folder)
    return {"status": "ok" if summary["finished"] else "unfinished", "runs": runs, "metrics": {}, "summary": summary}


def _of_study(folder: Path) -> Facts:
    told: Facts = {"metrics": {}, **json_in(folder / STUDY)}
    if _busy(folder) or not (folder / "summary.json").is_file():
        return told | {"status": "unfinished", "runs": _count(folder)}
    summary = read_summary(folder)
    return told | {"status": "ok", "runs": summary["runs"], "summary": summary}


def _count(folder: Path) -> int:
    return sum(kind_of(inside) == "run" for inside in (folder / "runs").glob("*"))


def _next(folder: Path, found: Facts) -> list[str]:
    """The commands that go on with it."""
    name, own = shlex.quote(str(folder)), _plugins(found)
    if found["kind"] != "run":
        summary = found.get("summary", {})
        begun = f"dsgd study {shlex.quote(str(found['study']))} --out {name}" if "study" in found else ""
        command = summary.get("command", begun)
        return [command] if command and found["status"] != "running" else []
    if found["status"] == "ok":
        return [f"dsgd probe {name}{own}", f"dsgd landscape {name} --out landscape.svg{own}"]
    if found["status"] in ("interrupted", "unfinished", "failed"):
        whole = folder.parent.parent
        return _next(whole, facts(whole)) if kind_of(whole) in ("study", "sweep") else [f"dsgd resume {name}{own}"]
    return []


def _plugins(found: Facts) -> str:
    """The words that name the plug-ins which a run was made with."""
    given = found.get("config", {}).get("plugins", ())
    files = [plugin["file"] for plugin in given if isinstance(plugin, dict) and "file" in plugin]
    return "".join(f" --plugin {shlex.quote(str(file))}" for file in files)


def _busy(folder: Path) -> bool:
    try:
        refuse_busy(folder)
    except Busy:
        return True
    except OSError:
        return False
    return False


def _age(folder: Path) -> float:
    """Seconds since it was last written to."""
    times = [path.stat().st_mtime for name in WRITTEN if (path := folder / name).is_file()]
    return max(0.0, time.time() - max(times, default=folder.stat().st_mtime))
