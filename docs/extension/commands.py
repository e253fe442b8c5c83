"""The page of the command line: what each command's --help prints."""

from __future__ import annotations

from typing import Any

import typer

from dsgd.cli import app

WIDTH = 96


def commands() -> str:
    """A section a command."""
    root: Any = typer.main.get_command(app)
    return "\n".join(_section(path, command) for path, command in _leaves(("dsgd",), root))


def _leaves(path: tuple[str, ...], command: Any) -> list[tuple[tuple[str, ...], Any]]:
    inner = getattr(command, "commands", {})
    return [leaf for name, one in inner.items() for leaf in _leaves((*path, name), one)] if inner else [(path, command)]


def _section(path: tuple[str, ...], command: Any) -> str:
    name = " ".join(path)
    context = command.make_context(name, [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH)
    return f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"
