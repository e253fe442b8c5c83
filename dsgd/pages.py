"""Self-contained pages in one style: their templates, their tables, and how numbers and formulas stand in them.

A page loads nothing, and runs only the script that comes with it, which sorts tables, saves them and the figures, and
steps through those that change over time: its content security policy names that script by its hash. Every text is
escaped, for names come from configs and are hostile until shown otherwise; a figure's SVG is checked to hold drawing
only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.figures import check_inert
from dsgd.typography import symbols, written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jinja2 import Template
    from markupsafe import Markup

    from dsgd.figures import Figure, Frames

Cell = str | float | int | None

TEMPLATES = Path(__file__).parent / "templates"
NUMERAL = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
MOST_ROWS = 24  # of a table that a page shows open


@dataclass(frozen=True)
class Table:
    """A titled table; each row has one cell a column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    @property
    def numeric(self) -> set[int]:
        """The columns that hold numbers, as such or in digits, and nothing else but gaps."""
        columns = enumerate(zip(*self.rows, strict=True))
        return {
            i for i, cells in columns if all(not isinstance(cell, str) or NUMERAL.fullmatch(cell) for cell in cells)
        }


def template(name: str, **filters: Callable[..., Any]) -> Template:
    """A page's template, with the filters that all have and its own; `refresh` 0 is a page that stays as it is."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder, script = FileSystemLoader(TEMPLATES), (TEMPLATES / "page.js").read_text(encoding="utf-8")
    pages = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {f.__name__: f for f in (exact, frames, number, paragraphs, symbols, typeset, written)} | filters
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pages.globals |= {"script": Markup(script), "script_hash": f"sha256-{digest}"}
    pages.globals |= {"most_rows": MOST_ROWS, "refresh": 0}
    return pages.get_template(name)


def inline(figures: Sequence[Figure]) -> list[tuple[Figure, Markup]]:
    """Each figure and its drawing as HTML; ValueError for one that is not inert."""
    from markupsafe import Markup

    # check_inert has read every figure, so its text may pass unescaped
    return [(figure, Markup(check_inert(figure.svg))) for figure in figures]


def frames(found: Frames) -> str:
    """What a page's script reads to step through a figure."""
    return json.dumps(asdict(found))


def number(value: Cell) -> str:
    """A cell's text: four significant digits, whole numbers whole, a dash for what is missing."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    return (str(value) if isinstance(value, int) else f"{value:.4g}").replace("-", "−")


def exact(value: Cell) -> str | None:
    """What a cell holds where its text does not say it in full: all digits of a number, nothing for a gap."""
    if value is None or value != value:
        return ""
    text = str(value)
    return text if text != number(value) or symbols(text) != text else None


def typeset(text: str) -> Markup:
    """`text` as HTML, escaped, with the signs and the subscripts of print: G_A is a G with a small A below."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"(?<!\w)([^\W\d_])_(\w+)", r"\1<sub>\2</sub>", str(escape(symbols(text)))))


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, which are parted by blank lines."""
    return [part for part in re.split(r"\s*\n\s*\n\s*", text.strip()) if part]
