"""The tables and figures of a page as files of their own: CSV with every digit, SVG that stands alone."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from dsgd.atomic import write_atomically
from dsgd.figures import file_names, standalone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dsgd.figures import Figure
    from dsgd.pages import Table


def write_csv(tables: Sequence[Table], folder: Path) -> None:
    """Each table as TITLE.csv: a line of column names, then its rows; what is missing is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(file_names(tables, ".csv"), tables, strict=True):
        write_atomically(folder / name, as_csv(table))


def write_svg(figures: Sequence[Figure], folder: Path) -> None:
    """Each figure as TITLE.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in zip(file_names(figures), figures, strict=True):
        write_atomically(folder / name, standalone(figure))


def as_csv(table: Table) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(table.columns)
    lines.writerows(table.rows)
    return text.getvalue()
