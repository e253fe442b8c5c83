"""What the site is given beside the documents: tables and drawings made from the code that they describe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from extension import mathml
from extension.made import Made
from extension.prose import restructured

if TYPE_CHECKING:
    from sphinx.application import Sphinx

REPORTS = "\n```{toctree}\n:hidden:\n:glob:\n\n*/report\n```\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    app.add_directive("made", Made)
    app.connect("source-read", list_reports)
    app.connect("autodoc-process-docstring", show_as_text)
    app.connect("autodoc-process-signature", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def list_reports(app: Sphinx, document: str, source: list[str]) -> None:
    """Every study's report is below the list of results."""
    if document == "experiments/results/README":
        source[0] += REPORTS


def show_as_text(app: Sphinx, what: str, name: str, part: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text."""
    lines[:] = restructured(lines)


def shorten(
    app: Sphinx, what: str, name: str, part: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Types without their modules, and `...` for a default that a function makes."""

    def short(text: str | None) -> str | None:
        return text and re.sub(r"~?\b(?:\w+\.)+(?=[A-Z])", "", text).replace("<factory>", "...")

    return short(arguments), short(returned)
