"""What a sweep found: a row a run, a row a setting with means over seeds, for people and as CSV."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from dsgd.cli.printed import cell, columns
from dsgd.results import read_history, read_summary
from dsgd.typography import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

SHOWN = (
    "train_loss_mean_model",
    "test_accuracy_mean_model",
    "test_accuracy_replicas_worst",
    "perplexity",
    "consensus_distance",
)
NOT_MEASURED = ("step", "lr", "bytes_sent", "diverged")
MOST_SHOWN = 4

Row = dict[str, Any]


def run_row(label: str, values: Mapping[str, Any], folder: Path) -> Row:
    """One run: its swept values, how it ended (ok, diverged, failed or missing), and what it measured last."""
    row = {"label": label, "values": dict(values), "folder": str(folder)}
    try:
        summary, measured = read_summary(folder), read_history(folder)
    except (OSError, ValueError):
        return row | {"status": "missing", "metrics": {}}
    status = "diverged" if "diverged_after" in summary else summary.get("status", "failed")
    said = {name: summary[name] for name in ("steps", "seconds", "diverged_after", "error") if name in summary}
    last = next((one for one in reversed(measured) if "diverged" not in one), {})
    return row | {"status": status} | said | {"metrics": last}


def table_of(rows: Sequence[Row]) -> list[Row]:
    """A row for each setting of the swept knobs but seed: how many runs there are, and the intervals of each metric.

    The mean is over the runs that ended well; `lo` and `hi` are its 95 % limits over seeds, None for one run.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(repr(_setting(row)), []).append(row)
    return [_grouped(group) for group in groups.values()]


def _grouped(rows: Sequence[Row]) -> Row:
    ended = [row["metrics"] for row in rows if row["status"] == "ok"]
    names = dict.fromkeys(name for metrics in ended for name in metrics if name not in NOT_MEASURED)
    found = {name: interval for name in names if (interval := _interval([metrics.get(name) for metrics in ended]))}
    return {"values": _setting(rows[0]), "runs": len(rows), "ok": len(ended), "metrics": found}


def _setting(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row["values"].items() if key != "seed"}


def _interval(values: Iterable[Any]) -> dict[str, Any] | None:
    """Mean and limits of the finite numbers; None where there are none."""
    from dsgd.statistics import mean_interval

    numbers = [float(value) for value in values if _is_number(value)]
    if not numbers:
        return None
    found = mean_interval(numbers)
    return {"mean": found.estimate, "lo": found.lo, "hi": found.hi, "n": found.n}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def in_print(summary: Mapping[str, Any]) -> str:
    """A sweep's table as aligned lines, what became of the runs that did not end well, and where all that lies."""
    table, names = summary["table"], _shown(summary["table"])
    keys = list(table[0]["values"]) if table else []
    heads = [*keys, "runs", *names]
    lines = [[*map(cell, row["values"].values()), _count(row), *(_cell(row, name) for name in names)] for row in table]
    ill = [(row["label"], _ending(row)) for row in summary["runs"] if row["status"] != "ok"]
    parts = [columns([heads, *lines]), *([columns(ill)] if ill else []), f"sweep: {summary['folder']}"]
    return "\n\n".join(parts)


def _shown(table: Sequence[Row]) -> list[str]:
    """The main metrics that were measured, or the first ones."""
    there = dict.fromkeys(name for row in table for name in row["metrics"])
    return [name for name in SHOWN if name in there] or list(there)[:MOST_SHOWN]


def _count(row: Row) -> str:
    return str(row["runs"]) if row["ok"] == row["runs"] else f"{row['ok']} of {row['runs']}"


def _cell(row: Row, name: str) -> str:
    found = row["metrics"].get(name)
    if found is None:
        return "-"
    if found["lo"] is None:
        return cell(found["mean"])
    text = written({"estimate": found["mean"], "ci": [found["lo"], found["hi"]]})
    return f"{text['estimate']} {text['interval']}"


def _ending(row: Row) -> str:
    if row["status"] == "diverged":
        return f"diverged after {row['diverged_after']} step{'s' * (row['diverged_after'] != 1)}"
    return f"{row['status']}: {row['error']}" if "error" in row else str(row["status"])


def csv_of_runs(rows: Sequence[Row]) -> str:
    """A line a run, with every single number that it measured last."""
    return _csv(
        {**row["values"], **{name: row.get(name) for name in ("folder", "status", "steps", "seconds")}}
        | {name: value for name, value in row["metrics"].items() if name != "step" and not isinstance(value, list)}
        for row in rows
    )


def csv_of_table(table: Sequence[Row]) -> str:
    """A line a setting: of each metric the mean, and its 95 % limits over seeds."""
    return _csv(
        {**row["values"], "runs": row["runs"], "ok": row["ok"]}
        | {
            f"{name}{end}": found[part]
            for name, found in row["metrics"].items()
            for end, part in (("", "mean"), ("_lo", "lo"), ("_hi", "hi"))
        }
        for row in table
    )


def _csv(rows: Iterable[Row]) -> str:
    lines = list(rows)
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return text.getvalue()
