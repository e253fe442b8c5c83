"""What the site is given beside the documents: tables and drawings made from the code that they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extension import mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx

REPORTS = "\n```{toctree}\n:hidden:\n:glob:\n\n*/report\n```\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (mathml.inline, None), (mathml.block, None))
    app.connect("source-read", list_reports)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def list_reports(app: Sphinx, document: str, source: list[str]) -> None:
    """Every study's report is below the list of results."""
    if document == "experiments/results/README":
        source[0] += REPORTS
