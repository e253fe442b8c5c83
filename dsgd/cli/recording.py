"""One run into one folder, whatever becomes of it: the folder always ends with a summary."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from dsgd.cli.machine import writable
from dsgd.config import ConfigError, resolved
from dsgd.results import RunFolder, default_folder, refuse_occupied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from dsgd.config import Config
    from dsgd.loop import Observer
    from dsgd.metrics import Values


class Tally:
    """An observer that keeps the steps done, since when, and the latest row."""

    def __init__(self) -> None:
        self.began, self.steps = time.perf_counter(), 0
        self.row: Values = {}

    def stepped(self, step: int) -> None:
        self.steps = step

    def measured(self, row: Values) -> None:
        self.row = row

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: a snapshot changes no count."""

    def event(self, event: str, **details: object) -> None:
        """Nothing: nor does an event."""

    def facts(self, n: int, seconds: float) -> dict[str, Any]:
        """Steps, seconds and replica-steps a second, as the summary says them."""
        rate = self.steps * n / seconds if seconds > 0 else None
        return {"steps": self.steps, "seconds": seconds, "replica_steps_per_second": rate}


def record(config: Config, path: Path, *observers: Observer) -> tuple[dict[str, Any], BaseException | None]:
    """The summary of the run in the new folder `path`, and what ended it early if something did."""
    folder, tally = _created(config, path), Tally()
    try:
        result = config.backend.train(config.run, (folder, tally, *observers))
    except (Exception, KeyboardInterrupt) as error:
        facts = tally.facts(config.run.n, time.perf_counter() - tally.began)
        return folder.fail(error, **facts, metrics=tally.row), error
    facts = tally.facts(config.run.n, result.seconds)
    return folder.finish(result.params, **facts, data_sha256=result.data_sha256), None


def new_folder(out: Path | None, name: str) -> Path:
    """`out`, or `runs/NAME-TIME`, which is not made yet; ConfigError where it is taken or cannot be made."""
    path = default_folder(name) if out is None else out
    try:
        refuse_occupied(path)
    except OSError as error:
        raise ConfigError(f"--out: {error}") from None
    if not writable(path):
        raise ConfigError(f"--out: {path} cannot be written; give a folder of your own")
    return path


def _created(config: Config, path: Path) -> RunFolder:
    try:
        return RunFolder.create(path, resolved(config), device=getattr(config.backend, "device", "auto"))
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written ({error.strerror or error}); give another folder") from None
