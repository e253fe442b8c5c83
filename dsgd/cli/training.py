"""`dsgd run` and `dsgd resume`: what is looked at before a run is trained, and what is said when it ends."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import typer

from dsgd.cli import printed
from dsgd.cli.machine import warn_of_torch
from dsgd.cli.own_parts import refuse_changes
from dsgd.cli.recording import new_folder, record
from dsgd.cli.resuming import config_of, finished, resume
from dsgd.cli.signals import status_of
from dsgd.cli.tracking import check_trackers
from dsgd.config.checks import check_backend, check_memory, check_model
from dsgd.plugins import named

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dsgd.cli.recording import Outcome
    from dsgd.config import Config


def train(config: Config, out: Path | None, as_json: bool, track: Sequence[str] = ()) -> None:
    """A new run, in the folder `out` or one of its name."""
    folder = new_folder(out, config.name)
    check_trackers(track)
    check_machine(config)
    _tell(record(config, folder, track), folder, as_json)


def go_on(
    folder: Path,
    overrides: Sequence[str],
    strict: bool,
    other_version: bool,
    as_json: bool,
    track: Sequence[str] = (),
) -> None:
    """A run that was begun, to its end; one that is finished is shown again."""
    summary, config = finished(folder), config_of(folder, overrides)
    if summary:
        printed.say(f"{folder} is finished; nothing is left to do")
        printed.show(summary, printed.of_run(summary), as_json)
        return
    refuse_changes(folder / "config.yaml", other_version)
    check_trackers(track)
    check_machine(config)
    _tell(resume(config, folder, strict=strict, other_version=other_version, track=track), folder, as_json)


def check_machine(config: Config) -> None:
    """ConfigError for what this machine cannot do."""
    check_backend(config.backend, config.run)
    check_memory(config.run, config.backend)
    check_model(config.run)
    warn_of_torch()


def _tell(outcome: Outcome, folder: Path, as_json: bool) -> None:
    """Prints a run's summary, and raises what ended it early: typer.Exit where that was a signal."""
    summary, error = outcome
    printed.show(summary, printed.of_run(summary), as_json)
    if why := summary.get("unwritten"):
        printed.say(f"warning: {folder / 'summary.json'} could not be written ({why})")
    if isinstance(error, KeyboardInterrupt):
        command = shlex.join(["dsgd", "resume", str(folder), *named()])
        printed.say(f"interrupted after {summary['steps']} steps; to go on: {command}")
        raise typer.Exit(status_of(error))
    if error is not None:
        raise error
