"""`dsgd compare`: what differs between runs, in the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.cli import printed
from dsgd.cli.reporting import SWEEP, Outputs, export, record_of, write_page
from dsgd.config import ConfigError
from dsgd.config.problems import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dsgd.comparison import Comparison
    from dsgd.pages import Table

MOST_COLUMNS = 5  # of runs beside each other; more are lines


def compared(
    folders: Sequence[Path], out: Path | None, csv: Path | None, svg: Path | None
) -> tuple[dict[str, Any], str]:
    """What differs between the runs in the folders, as values and as text; written to files where that is asked for.

    ConfigError for fewer than two runs, one that is given twice or is none, and files that cannot be.
    """
    from dsgd.comparison import comparison, render

    folders = [run for folder in folders for run in _runs_of(folder)]
    _check_folders(folders)
    outputs = Outputs(out, csv, svg)
    outputs.check()
    found = comparison([record_of(folder) for folder in folders])
    if out is not None:
        write_page(render(found), out)
    figures = [figure for _, figures in found.figures for figure in figures] if svg else []
    written = ({} if out is None else {"report": str(out)}) | export(figures, found.tables, outputs, out)
    return _values(found) | written, _text(found, written)


def _runs_of(folder: Path) -> Sequence[Path]:
    """The folders of a sweep's finished runs, or the folder itself; ConfigError for a sweep that has none."""
    if not (folder / SWEEP).is_file():
        return [folder]
    try:
        rows = json.loads((folder / SWEEP).read_text(encoding="utf-8"))["runs"]
        runs = [folder / "runs" / Path(row["folder"]).name for row in rows if row["status"] == "ok"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"RUN_DIR: {folder / SWEEP} cannot be read ({type(error).__name__}: {error})") from None
    if not runs:
        raise ConfigError(f"RUN_DIR: no run of the sweep {folder} has finished; go on with it first")
    return runs


def _check_folders(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise ConfigError("RUN_DIR: one given; give the folders of two runs at least")
    for place, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:place]]:
            raise ConfigError(f"RUN_DIR: {folder} is given twice; give each run once")


def _values(found: Comparison) -> dict[str, Any]:
    return {
        "runs": [
            {"run_dir": str(r.path), "label": label, "status": r.status, "steps": r.steps}
            for r, label in zip(found.records, found.labels, strict=True)
        ],
        "settings": dict(found.settings),
        "metrics": found.metrics,
        "same_settings": found.same,
    }


def _text(found: Comparison, written: dict[str, Any]) -> str:
    """The settings that differ and the main metrics, a column a run, or a line a run where there are many."""
    settings, metrics = found.tables
    shown = {*printed.MAIN_METRICS, *(n for n in found.metrics if n.endswith(printed.OF_TWINS))}
    main = [row for row in metrics.rows if row[0] in shown]
    parts = [_lines(settings, settings.rows), settings.caption, _lines(metrics, main)]
    return "\n\n".join([*parts, *([printed.pairs(written)] if written else [])])


def _lines(table: Table, rows: Sequence[Sequence[Any]]) -> str:
    cells = [[one_line(printed.cell(value)) for value in row] for row in (table.columns, *rows)]
    turned = len(table.columns) > MOST_COLUMNS + 1
    return printed.columns(list(zip(*cells, strict=True)) if turned else cells)
