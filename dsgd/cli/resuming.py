"""A run continued in its folder, from its newest complete checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.atomic import remove_stale
from dsgd.checkpoints import FOLDER, Checkpoint, latest
from dsgd.cli.printed import say
from dsgd.cli.recording import Outcome, alone_in, trained
from dsgd.cli.signals import wishing
from dsgd.config import BESIDE_RUN, Config, ConfigError, load
from dsgd.fingerprint import origin
from dsgd.footprint import layout_of
from dsgd.results import RunFolder, read_summary
from dsgd.snapshots import FOLDER as SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CHANGEABLE = [key for key in BESIDE_RUN if key not in ("name", "plugins")]


def finished(path: Path) -> dict[str, Any] | None:
    """The summary of a run that has nothing left to do; ConfigError where the folder is not a run's."""
    if not (path / "config.yaml").is_file():
        what = "has no config.yaml" if path.is_dir() else "is no folder"
        raise ConfigError(f"{path} {what}; give the folder of a run that dsgd run began")
    try:
        summary = read_summary(path)
    except (OSError, ValueError):
        return None
    return summary if summary.get("status") == "ok" else None


def config_of(path: Path, overrides: Sequence[str]) -> Config:
    """The configuration of a run's folder; ConfigError where it is damaged, or an override would change a number."""
    for override in overrides:
        if override.partition("=")[0].partition(".")[0].strip() not in CHANGEABLE:
            allowed = ", ".join(CHANGEABLE)
            raise ConfigError(
                f"{override}: would make it another run; allowed are {allowed}, or begin anew by dsgd run"
            )
    return load(path / "config.yaml", overrides)


def resume(config: Config, path: Path, *, strict: bool, other_version: bool, track: Sequence[str] = ()) -> Outcome:
    """The run in the folder `path` continued to its end.

    With `strict` ConfigError where its newest checkpoint is damaged, instead of going back to an older one; without
    `other_version` where it is of other sources or another torch than ours.
    """
    with wishing() as wish, alone_in(path):
        for place in (path, path / FOLDER, path / SNAPSHOTS):
            remove_stale(place)
        folder = RunFolder(path)
        try:
            checkpoint = _checkpoint(config, path, strict, other_version)
            folder.rewind(checkpoint.world.step if checkpoint else -1)  # the start measures step 0 again
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from None
        step = checkpoint.world.step if checkpoint else 0
        folder.event("resumed", step=step)
        return trained(config, folder, wish, checkpoint, track, resumed_at=step)


def _checkpoint(config: Config, path: Path, strict: bool, other_version: bool) -> Checkpoint | None:
    """Where to go on; says what is damaged or of another version, and where there is nothing to go on from."""

    def warn(said: str) -> None:
        say(f"warning: {said}")

    known, layout = origin(config.run), layout_of(config.run)
    found = latest(path, known, layout, strict=strict, other_version=other_version, tell=warn)
    if found is None:
        say(f"{path} holds no complete checkpoint; the run starts anew")
    return found
