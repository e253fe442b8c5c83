"""The user's own files, named by `--plugin`, and what is said where one is another now than it was for a run."""

from __future__ import annotations

from collections.abc import Sequence  # typer reads the types of what it calls
from pathlib import Path

from dsgd.cli.printed import say


def load_plugins(files: Sequence[Path] | None) -> Sequence[Path] | None:
    """Runs the files as the command line is read, so that all that follows knows their parts; ConfigError."""
    if files:
        from dsgd.config.plugins import load_plugin

        for file in files:
            load_plugin(file)
    return files


def warn_of_changes(config: Path) -> None:
    """Says which of the plug-ins that a configuration was written with were changed since."""
    from dsgd.config import content_of
    from dsgd.config.plugins import changed_plugins

    for changed in changed_plugins(content_of(config)):
        say(f"warning: {changed}")


def refuse_changes(config: Path, other_version: bool) -> None:
    """ConfigError where a run would go on with plug-ins that were changed since it began; else they are told."""
    from dsgd.config import ConfigError, content_of
    from dsgd.config.plugins import changed_plugins

    if other_version:
        warn_of_changes(config)
    elif changed := changed_plugins(content_of(config)):
        raise ConfigError(*(f"{sentence}; put it back, or go on with --other-version" for sentence in changed))
