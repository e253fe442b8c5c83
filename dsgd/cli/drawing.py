"""Figures that commands draw into files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgd.cli import printed
from dsgd.config.problems import refuse

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.figures import Figure


def check_drawing(path: Path, option: str) -> None:
    """ConfigError naming the option where `path` is no SVG file or its folder is not there."""
    if path.suffix != ".svg":
        refuse(option, f"{path} does not end in .svg; give a name that does")
    if not path.parent.is_dir():
        refuse(option, f"{path.parent} is not a folder; make it first")


def write_drawing(figure: Figure, path: Path, option: str) -> None:
    """Writes an SVG file, whole or not at all, and says so on stderr; ConfigError where it cannot be written."""
    from dsgd.atomic import write_atomically
    from dsgd.figures import standalone

    try:
        write_atomically(path, standalone(figure))
    except OSError as error:
        refuse(option, f"{path} cannot be written: {error.strerror}")
    printed.say(f"drawn: {path}")
