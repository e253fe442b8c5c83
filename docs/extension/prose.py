"""Docstrings, which are plain text with `names` in backticks, as the two markups that Sphinx reads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc, getdoc
from typing import Any

from dsgd.typography import symbols

NAMES = re.compile(r"(`[^`\n]+`)")
SPANS = re.compile(r"(`[^`]+`)")
LISTED = re.compile(r"^ *(?:-|\d+\.) ", re.MULTILINE)
ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eta": "η", "theta": "θ", "rho": "ρ", "xi": "ξ"}
LETTERS = re.compile(rf"(?<![A-Za-z_=])(?:{'|'.join(GREEK)})(?![A-Za-z_=])|\bgrad (?=[LH'])")
CELL_BREAKS = str.maketrans({"|": r"\|", "\n": " "})


def markdown(text: str) -> str:
    """Plain text as Markdown that shows it: formulas in print's signs, papers linked, examples as code."""
    return "\n\n".join(map(_marked, cleandoc(text).split("\n\n")))


def _marked(paragraph: str) -> str:
    if paragraph.startswith(">>>"):
        return f"```pycon\n{paragraph}\n```"
    return "".join(part if part.startswith("`") else _escaped(part) for part in NAMES.split(paragraph))


def _escaped(text: str) -> str:
    greek = LETTERS.sub(lambda found: GREEK.get(found[0], "∇"), symbols(text))
    plain = re.sub(r"([*_$<\[\\#])", r"\\\1", greek.replace("<-", "←"))
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", plain)


def cell(text: str) -> str:
    """Markdown on one line, for a cell of a table."""
    return text.translate(CELL_BREAKS)


def documentation(part: Any) -> str:
    """The docstring of a part as Markdown."""
    return markdown(getdoc(part) or "")


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table whose cells are Markdown."""
    lines = [header, tuple("---" for _ in header), *(tuple(map(cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText that shows them: `names` literal, nothing else a markup.

    Lines that stand in from a sentence are kept as lines, and examples behind >>> as they are.
    """
    paragraphs = "\n".join(lines).split("\n\n")
    return "\n\n".join(map(_paragraph, paragraphs)).split("\n")


def _paragraph(text: str) -> str:
    if text.lstrip().startswith(">>>"):
        return text
    shown = "".join(
        f"`{part}`" if part.startswith("`") else re.sub(r"([*|_\\])", r"\\\1", part) for part in SPANS.split(text)
    )
    return shown if LISTED.search(shown) else "\n".join(_kept(shown.split("\n")))


def _kept(lines: list[str]) -> Iterator[str]:
    """Lines that are further in than the first as a line block, with the empty lines that one asks for."""
    least, inside = _depth(lines[0]), False
    for line in lines:
        within = _depth(line) > least
        if within != inside:
            yield ""
        yield f"{' ' * least}| {line.strip()}" if within else line
        inside = within


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())
