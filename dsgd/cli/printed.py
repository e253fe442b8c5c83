"""What the commands print on stdout: one JSON object for machines, or a few aligned lines for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dsgd.results import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.cli.catalogue import Entry

MAIN_METRICS = (
    "train_loss_mean_model",
    "test_loss_mean_model",
    "test_accuracy_mean_model",
    "test_accuracy_replicas_mean",
    "test_accuracy_replicas_worst",
    "consensus_distance",
    "trace_xi",
    "bytes_sent",
)


def show(value: Any, text: str, as_json: bool) -> None:
    """Prints `value` as JSON, without NaN, or else the `text` that says the same."""
    print(to_json(value, indent=2) if as_json else text, flush=True)


def say(*lines: str) -> None:
    """Prints lines on stderr, where they do not mix with a result."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def pairs(values: Mapping[str, Any]) -> str:
    """A line for each name and value; mappings inside get dotted names."""
    return columns([(name, cell(value)) for name, value in flat(values).items()])


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def cell(value: Any) -> str:
    """A value in a few characters; not available is a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "none"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def of_run(summary: Mapping[str, Any]) -> str:
    """A run's folder, pace and main metrics."""
    row = summary["metrics"]
    pace = {name: summary[name] for name in ("status", "run_dir", "steps", "seconds", "replica_steps_per_second")}
    return pairs(pace | {name: row[name] for name in MAIN_METRICS if row.get(name) is not None})


def of_study(summary: Mapping[str, Any], folder: Path) -> str:
    """The verdict on each claim, what was found in words, and where the report lies."""
    rows = [(c["verdict"], c["kind"], c["name"], _interval(c)) for c in summary["claims"]]
    answer = fill(summary["answer"], 100) if summary.get("answer") else ""
    report = f"report: {folder / 'report.html'}"
    return "\n\n".join(part for part in (columns(rows) if rows else "", answer, report) if part)


def _interval(claim: Mapping[str, Any]) -> str:
    lo, hi = claim["ci"] or (None, None)
    return f"{cell(claim['estimate'])} [{cell(lo)}, {cell(hi)}]"


def of_table(entries: Sequence[Entry]) -> str:
    """A line for each row of a table: its name, what it is, its knobs and their defaults."""
    return columns([(e.name, e.summary, " ".join([*e.required, *map(_spelled, e.knobs.items())])) for e in entries])


def _spelled(knob: tuple[str, Any]) -> str:
    name, default = knob
    return f"{name}={default if isinstance(default, str) else to_json(default)}"
