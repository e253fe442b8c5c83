"""`--track`: the trackers of a run, refused before it starts where they are not there, closed as it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dsgd.cli.printed import say
from dsgd.config import Config, ConfigError, resolved

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.trackers import Tracker


def check_trackers(names: Sequence[str]) -> None:
    """ConfigError for one that is unknown or not installed."""
    from dsgd.trackers import check_tracker

    for name in names:
        try:
            check_tracker(name)
        except (ValueError, ModuleNotFoundError) as error:
            raise ConfigError(f"--track: {error}") from None


@contextmanager
def tracked(names: Sequence[str], config: Config, folder: Path, step: int | None) -> Iterator[list[Tracker]]:
    """The trackers of a run in its folder, which goes on from `step` if that is given; told how the block ends."""
    from dsgd.trackers import track

    how: dict[str, Any] = {"config": resolved(config), "step": step, "tell": _warn}
    trackers = [track(name, config.run, folder, **how) for name in dict.fromkeys(names)]
    status = "ok"
    try:
        yield trackers
    except BaseException as error:
        from dsgd.loop import Stopped

        status = "failed" if isinstance(error, Exception) and not isinstance(error, Stopped) else "interrupted"
        raise
    finally:
        for tracker in trackers:
            tracker.close(status)


def _warn(sentence: str) -> None:
    say(f"warning: {sentence}")
