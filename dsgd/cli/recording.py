"""One run into one folder, whatever becomes of it: the folder always ends with a summary."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from dsgd.checkpoints import generations, step_of
from dsgd.cli.machine import writable
from dsgd.cli.printed import say
from dsgd.cli.progress import progress
from dsgd.cli.signals import wishing
from dsgd.cli.tracking import tracked
from dsgd.config import ConfigError, resolved
from dsgd.fingerprint import origin
from dsgd.keeping import FolderKeeper
from dsgd.locks import Busy, locked, refuse_busy
from dsgd.loop import Stopped
from dsgd.results import RunFolder, default_folder, read_history, refuse_occupied

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from dsgd.checkpoints import Checkpoint
    from dsgd.cli.signals import Wish
    from dsgd.config import Config
    from dsgd.metrics import Values

Outcome = tuple[dict[str, Any], BaseException | None]  # a run's summary, and what ended it early if something did


class Tally:
    """An observer that keeps the steps done and the latest row; `before` are the seconds spent in earlier sittings."""

    def __init__(self, steps: int = 0, before: float = 0.0, row: Values | None = None) -> None:
        self.began, self.before, self.steps = time.perf_counter(), before, steps
        self.row: Values = row or {}

    def stepped(self, step: int) -> None:
        self.steps = step

    def measured(self, row: Values) -> None:
        self.row = row

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: a snapshot changes no count."""

    def event(self, event: str, **details: object) -> None:
        """Nothing: nor does an event."""

    def facts(self, n: int, seconds: float | None = None) -> dict[str, Any]:
        """Steps, seconds and replica-steps a second, as the summary says them; `seconds` are this sitting's."""
        total = self.before + (time.perf_counter() - self.began if seconds is None else seconds)
        rate = self.steps * n / total if total > 0 else None
        return {"steps": self.steps, "seconds": total, "replica_steps_per_second": rate}


def record(config: Config, path: Path, track: Sequence[str] = ()) -> Outcome:
    """The run in the new folder `path`."""
    with wishing() as wish, alone_in(path):
        return trained(config, _created(config, path), wish, track=track)


def trained(
    config: Config,
    folder: RunFolder,
    wish: Wish,
    checkpoint: Checkpoint | None = None,
    track: Sequence[str] = (),
    **more: object,
) -> Outcome:
    """The run in its folder, from its start or from a checkpoint; the summary says `more` too."""
    run, world = config.run, checkpoint.world if checkpoint else None
    rows = read_history(folder.path) if checkpoint else []
    tally = _tally(checkpoint, rows)
    damaged = _passed_over(folder.path, world.step if world else -1)
    keeper = FolderKeeper(folder, config.keeping, run.steps, origin(run), wish.stated, say, tally.before, damaged)
    try:
        with (
            tracked(track, config, folder.path, world.step if world else None) as trackers,
            progress(run, rows, str(folder.path)) as meter,
        ):
            result = config.backend.train(run, (folder, tally, meter, *trackers), world, keeper)
        facts = tally.facts(run.n, result.seconds) | more
        counts = {name: getattr(result, name) for name in ("places", "bytes_crossed", "dropped")}
        facts |= {name: count for name, count in counts.items() if result.places > 1}
        return folder.finish(result.params, **facts, data_sha256=result.data_sha256), None
    except (Exception, KeyboardInterrupt, SystemExit) as ended:
        error = ended if not isinstance(ended, Stopped) else wish.error() if wish.stated() else keeper.failure or ended
        return folder.fail(error, **tally.facts(run.n), **more, metrics=tally.row), error


def _tally(checkpoint: Checkpoint | None, rows: Sequence[Values]) -> Tally:
    """The count as it stood at a checkpoint."""
    if checkpoint is None:
        return Tally()
    return Tally(checkpoint.world.step, checkpoint.seconds, rows[-1] if rows else {})


def _passed_over(path: Path, step: int) -> list[Path]:
    """The checkpoints newer than that of the step to go on from, which is the newest that is not damaged."""
    return [found for found in generations(path) if step_of(found) > step]


@contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """The folder for this process alone while the block lasts; ConfigError where it cannot be had."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except Busy as error:
            raise ConfigError(str(error)) from None
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror or error}); give another folder") from None
        yield


def new_folder(out: Path | None, name: str) -> Path:
    """`out`, or `runs/NAME-TIME`, which is not made yet; ConfigError where it is taken or cannot be made."""
    path = default_folder(name) if out is None else out
    try:
        refuse_busy(path)
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
