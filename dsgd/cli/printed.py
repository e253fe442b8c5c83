"""What the commands print on stdout: one JSON object for machines, or a few aligned lines for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dsgd.results import to_json
from dsgd.typography import written
from dsgd.yaml_values import flat

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
OF_TWINS = ("_test_accuracy", "_distance")  # how the names of a twin's main metrics end
OF_ACCURACY = ("train_", "test_", "generalization_")  # the rest of what the metric accuracy measures
MOST_OTHERS = 12  # of the numbers that other metrics measured; all are in metrics.jsonl


def show(value: Any, text: str, as_json: bool) -> None:
    """Prints `value` as JSON, without NaN, or else the `text` that says the same."""
    print(to_json(value, indent=2) if as_json else text, flush=True)


def say(*lines: str) -> None:
    """Prints lines on stderr, where they do not mix with a result."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines, every column as wide as its widest cell; no rows are no text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def pairs(values: Mapping[str, Any]) -> str:
    """A line for each name and value; mappings inside get dotted names."""
    return columns([(name, cell(value)) for name, value in flat(values).items()])


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
    """A run's folder, pace, places if several, main metrics and a dozen others, with the step where it ended early."""
    row = summary["metrics"]
    pace = {name: summary[name] for name in ("status", "run_dir", "steps", "seconds", "replica_steps_per_second")}
    early = {"metrics_as_of_step": row["step"]} if row and summary["status"] != "ok" else {}
    names = dict.fromkeys([*MAIN_METRICS, *(name for name in row if name.endswith(OF_TWINS))])
    shared = {name: summary[name] for name in ("places", "bytes_crossed", "dropped") if name in summary}
    others = [name for name, value in row.items() if isinstance(value, float) and not name.startswith(OF_ACCURACY)]
    names |= dict.fromkeys([name for name in others if name not in ("lr", *names)][:MOST_OTHERS])
    return pairs(pace | early | shared | {name: row[name] for name in names if row.get(name) is not None})


def of_study(summary: Mapping[str, Any], folder: Path) -> str:
    """The verdict on each claim, their count, what was found in words, and where the report lies."""
    from dsgd.report import headline, paragraphs

    rows = [
        (c["verdict"], c["kind"], c["name"], written(c)["estimate"], written(c)["interval"]) for c in summary["claims"]
    ]
    counted = "\n".join(headline(summary["claims"], summary.get("preset", "")))
    answer = [fill(paragraph, 100) for paragraph in paragraphs(summary.get("answer", ""))]
    return "\n\n".join([columns(rows), counted, *answer, f"report: {folder / 'report.html'}"]).lstrip()


def of_studies(found: Mapping[str, Mapping[str, str]]) -> str:
    """A line for the question of each study, and one below for what its presets take."""
    lines = [
        line for name, says in found.items() for line in ((name, says["question"]), ("", says["takes"])) if line[1]
    ]
    return columns(lines)


def of_table(entries: Sequence[Entry]) -> str:
    """A line for each row of a table: its name, what it is, its knobs and their defaults."""
    costed = any(e.cost for e in entries)  # a user's own method need not say
    rows = [
        (e.name, *(_known(e) if costed else ()), e.summary, " ".join([*e.required, *map(_spelled, e.knobs.items())]))
        for e in entries
    ]
    return columns(rows)


def _known(entry: Entry) -> tuple[str, ...]:
    return entry.paper, f"cost {entry.cost}" if entry.cost else ""


def _spelled(knob: tuple[str, Any]) -> str:
    name, default = knob
    return f"{name}={default if isinstance(default, str) else to_json(default)}"
