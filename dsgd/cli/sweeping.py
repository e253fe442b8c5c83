"""`dsgd run` with several values for a knob: every combination a run in one folder, what is missing trained, a table.

    sweep.json  runs.csv  table.csv  runs/n-8_seed-0-1f3a9c2e ...

A run's folder is named by what differs and by the key of its result, so that a finished one is reused by whoever asks
for the same run again, and by nobody else.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dsgd import results
from dsgd.atomic import write_atomically
from dsgd.cli import printed
from dsgd.cli.machine import writable
from dsgd.cli.progress import Together, study_progress
from dsgd.cli.signals import status_of, terminable
from dsgd.cli.sweep_tables import csv_of_runs, csv_of_table, in_print, run_row, table_of
from dsgd.cli.training import check_machine
from dsgd.config import BESIDE_RUN, ConfigError, content_of, load
from dsgd.config.overrides import with_overrides
from dsgd.config.sweeps import file_name_of, label_of, read_sweep
from dsgd.fingerprint import key
from dsgd.kept_runs import RUNS_A_WORKER, KeptRuns, StudyError, default_workers
from dsgd.locks import Busy, locked, refuse_busy
from dsgd.plugins import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgd.config import Config
    from dsgd.config.sweeps import Choice, Sweep

__all__ = ["MARK", "Asked", "conduct", "read_sweep"]

MARK = "sweep.json"
FINISHED = ("ok", "diverged")


@dataclass(frozen=True)
class Asked:
    """A sweep as it was asked for: in words, of which file, into what folder, by how many processes (0: as fits)."""

    sweep: Sweep
    path: Path | None
    out: Path | None = None
    workers: int = 0

    def command(self) -> str:
        """The line that goes on with it."""
        words = [*([str(self.path)] if self.path else []), *self.sweep.words]
        return shlex.join(["dsgd", "run", *words, *(["--out", str(self.out)] if self.out else []), *named()])

    def folder(self, name: str) -> Path:
        """`--out`, or a folder in `runs` that is the same for other values of the same knobs."""
        if self.out is not None:
            return self.out
        given = {} if self.path is None else content_of(self.path)
        given, _ = with_overrides(given, self.sweep.fixed())
        told = {name: value for name, value in given.items() if name not in BESIDE_RUN}
        digest = hashlib.sha256(json.dumps([told, sorted(self.sweep.swept)], sort_keys=True).encode()).hexdigest()
        return Path("runs") / results.valid_name(f"sweep-{name[:80]}-{digest[:8]}")


@dataclass(frozen=True)
class Point:
    """One combination: its spelled values, and the configuration that they make."""

    choice: Choice
    config: Config

    @property
    def label(self) -> str:
        return label_of(self.choice)


def points_of(asked: Asked) -> list[Point]:
    """All combinations; ConfigError with what is wrong with any, and where two are the same run."""
    points, problems = list[Point](), dict[str, str]()
    for choice in asked.sweep.choices():
        try:
            points.append(Point(choice, load(asked.path, asked.sweep.overrides(choice))))
        except ConfigError as error:
            problems |= {problem: label_of(choice) for problem in reversed(error.problems) if problem not in problems}
    if problems:
        raise ConfigError(*(f"{problem} (at {label})" for problem, label in problems.items()))
    _refuse_equal(points)
    return points


def _refuse_equal(points: Sequence[Point]) -> None:
    seen: dict[str, str] = {}
    for point in points:
        if (other := seen.setdefault(repr(point.config.run), point.label)) != point.label:
            raise ConfigError(f"{other} and {point.label} are the same run; another word sets what is swept")


def conduct(asked: Asked, as_json: bool) -> None:
    """Trains what is missing, and prints the table.

    typer.Exit where a signal ended it; StudyError, after all, where runs failed.
    """
    points = points_of(asked)
    config = points[0].config
    folder = asked.folder(config.name)
    _refuse_foreign(folder)
    for point in {repr(replace(point.config.run, seed=0)): point for point in points}.values():
        check_machine(point.config)
    try:
        with terminable(), locked(folder):
            failed = _trained(asked, points, folder, as_json)
    except Busy as error:
        raise ConfigError(str(error)) from None
    except KeyboardInterrupt as error:
        printed.say(f"interrupted; to go on with the runs that are missing: {asked.command()}")
        raise typer.Exit(status_of(error)) from None
    if failed:
        raise StudyError(failed)


def _trained(asked: Asked, points: Sequence[Point], folder: Path, as_json: bool) -> str:
    """The runs, their table and its files; returns in a sentence what failed, nothing if all went well."""
    began, backend = time.perf_counter(), points[0].config.backend
    folders = folders_of(points, folder)
    runs = {point.label: point.config.run for point in points}
    _write(folder, {"command": asked.command(), "finished": False})
    with study_progress() as count:
        meter = Together(_steps_to_take(points, folders), count)
        kept = KeptRuns(
            folder,
            backend,
            (meter,),
            meter,
            key,
            asked.workers or default_workers(backend),
            accepts_divergence=True,
            runs_a_worker=1 if asked.workers else RUNS_A_WORKER,
        )
        try:
            trained, error = kept.train_missing(runs, folders), ""
        except StudyError as failed:
            trained, error = None, str(failed)
    rows = [run_row(p.label, asked.sweep.values(p.choice), folders[p.label]) for p in points]
    facts = {"trained": trained, "seconds": time.perf_counter() - began}
    summary = _summary(asked, folder, rows) | facts
    _write(folder, summary, csv_of_runs(rows), csv_of_table(summary["table"]))
    printed.show(summary, in_print(summary), as_json)
    return error or _failures(rows)


def _steps_to_take(points: Sequence[Point], folders: dict[str, Path]) -> int:
    missing = (p for p in points if run_row(p.label, {}, folders[p.label])["status"] not in FINISHED)
    return sum(point.config.run.steps for point in missing)


def folders_of(points: Sequence[Point], folder: Path) -> dict[str, Path]:
    """Each run's folder: what differs, and the key of its result."""
    return {p.label: folder / "runs" / f"{file_name_of(p.choice)}-{key(p.config.run)[:8]}" for p in points}


def _summary(asked: Asked, folder: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    swept = {name: [row["values"][name] for row in rows] for name in asked.sweep.swept}
    distinct = {name: [v for i, v in enumerate(values) if v not in values[:i]] for name, values in swept.items()}
    summary: dict[str, Any] = results.jsonable(
        {
            "folder": folder,
            "command": asked.command(),
            "finished": all(row["status"] in FINISHED for row in rows),
            "swept": distinct,
            "versions": results.versions(),
            "git": results.git_commit(),
            "table": table_of(rows),
            "runs": rows,
        }
    )
    return summary


def _failures(rows: Sequence[dict[str, Any]]) -> str:
    ill = [row for row in rows if row["status"] != "ok"]
    if not ill:
        return ""
    return f"{len(ill)} of {len(rows)} runs, first {ill[0]['label']}: {ill[0].get('error', ill[0]['status'])}"


def _write(folder: Path, summary: dict[str, Any], runs: str = "", table: str = "") -> None:
    """The sweep's files, each whole or as it was; the CSV ones where there is something to write."""
    for name, text in {"runs.csv": runs, "table.csv": table}.items():
        if text:
            write_atomically(folder / name, text)
    write_atomically(folder / MARK, results.to_json(summary, indent=2) + "\n")


def _refuse_foreign(folder: Path) -> None:
    """ConfigError unless the folder is absent, empty, or a sweep's, and can be written to."""
    try:
        refuse_busy(folder)
        if folder.is_symlink() or not (folder / MARK).is_file():
            results.refuse_occupied(folder)
    except OSError as error:
        raise ConfigError(f"--out: {error}, or the one of a sweep") from None
    if not writable(folder):
        raise ConfigError(f"--out: {folder} cannot be written; give a folder of your own")
