"""The measurements of runs as curves: of whom a column is, which belong into one figure, and what bands they have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgd.plots import Series, traces
from dsgd.records import BESIDE_METRICS, number_in
from dsgd.statistics import mean_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dsgd.figures import Figure

WHOSE = {"_mean_model": "mean model", "_replicas_mean": "replicas", "_replicas": "replicas"}
WORST = "_replicas_worst"  # the end of a band that begins at the replicas' mean
BOUNDS = ("_lo", "_hi")
MAIN = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "distance", "lr")
SAID = {
    "lr": "learning rate",
    "distance": "distance to the mean model",
    "trace_xi": "Tr Xi",
    "bytes_sent": "bytes sent",
}
SIGNS = {"xi": "Xi", "h": "H"}
LINEAR = re.compile(r"accuracy|^lr$|bytes|share|auroc|cosine|alignment")
SPAN = 30  # greatest over least value from which an axis is logarithmic
NAME = re.compile(r"\w{1,100}")


@dataclass(frozen=True)
class Column:
    """A column of numbers: `quantity` is what is measured, `whose` of what model; `low` and `high` name its band.

    `whose` is empty where the column's name does not say it; beside others of its quantity that is the mean model's.
    """

    name: str
    quantity: str
    whose: str
    low: str = ""
    high: str = ""

    @property
    def label(self) -> str:
        return f"{self.whose} (mean to worst)" if WORST in f"{self.low} {self.high}" else self.whose


def columns(rows: Iterable[Mapping[str, Any]], twins: Sequence[str] = ()) -> list[Column]:
    """The columns that hold a number twice at least, each once, those that are ends of bands with the others."""
    counts: dict[str, int] = {}
    for row in rows:
        for name, value in row.items():
            counts[name] = counts.get(name, 0) + (number_in(value) is not None)
    drawn = {name for name, count in counts.items() if count > 1 and NAME.fullmatch(name)} - {*BESIDE_METRICS}
    found = [_column(name, drawn, twins) for name in counts if name in drawn]
    ends = {end for column in found for end in (column.low, column.high)}
    return [column for column in found if column.name not in ends or column.name in (column.low, column.high)]


def _column(name: str, drawn: set[str], twins: Sequence[str]) -> Column:
    if name == "consensus_distance":
        return Column(name, "distance", "replicas, root mean square")
    for twin in twins:
        if name.startswith(f"{twin}_"):
            return Column(name, name.removeprefix(f"{twin}_"), twin.replace("_", " "), *_bounds(name, drawn))
    for ending, whose in WHOSE.items():
        if name.endswith(ending):
            quantity = name.removesuffix(ending)
            return Column(name, quantity, whose, *_replicas(name, quantity + WORST, drawn))
    return Column(name, name, "", *_bounds(name, drawn))


def _bounds(name: str, drawn: set[str]) -> tuple[str, str]:
    low, high = (name + end for end in BOUNDS)
    return (low, high) if {low, high} <= drawn else ("", "")


def _replicas(name: str, worst: str, drawn: set[str]) -> tuple[str, str]:
    """The band of the replicas' mean: to the worst of them, which has the least accuracy and the greatest loss."""
    if not name.endswith("_replicas_mean") or worst not in drawn:
        return _bounds(name, drawn)
    return (worst, name) if "accuracy" in name else (name, worst)


def series(rows: Sequence[Mapping[str, Any]], column: Column, label: str) -> Series:
    """A column over steps, wherever it was measured; a gap where the measurement gave no number."""
    measured = [row for row in rows if column.name in row]

    def values(name: str) -> list[float | None]:
        return [number_in(row.get(name)) for row in measured]

    ends = (values(column.low), values(column.high)) if column.low else (None, None)
    return Series(label, [float(row["step"]) for row in measured], values(column.name), *ends)


def over_seeds(runs: Sequence[Sequence[Mapping[str, Any]]], column: Column, label: str) -> Series:
    """A column of several runs: their mean and its 95 % interval at the steps where all have a number."""
    if len(runs) == 1:
        return series(runs[0], column, label)
    found = [{row["step"]: number_in(row.get(column.name)) for row in rows if column.name in row} for rows in runs]
    steps = [step for step in found[0] if all(step in each for each in found)]
    values = [[value for each in found if (value := each[step]) is not None] for step in steps]
    means = [mean_interval(some) if len(some) == len(runs) else None for some in values]
    ends = [(mean.estimate, mean.lo, mean.hi) if mean else (None, None, None) for mean in means]
    y, lo, hi = zip(*ends, strict=True) if ends else ((), (), ())
    return Series(label, [float(step) for step in steps], y, lo, hi)


def grouped(found: Iterable[Column]) -> dict[str, list[Column]]:
    """The columns of each quantity, the main ones first."""
    groups: dict[str, list[Column]] = {}
    for column in found:
        groups.setdefault(column.quantity, []).append(column)
    first = {name: groups[name] for name in MAIN if name in groups}
    return first | groups


def labels(columns: Sequence[Column]) -> list[str]:
    """What the curves of one quantity are called; nothing where there is one that needs no name."""
    alone = len(columns) == 1
    return [column.label or ("" if alone else "mean model") for column in columns]


def in_words(quantity: str) -> str:
    return SAID.get(quantity) or " ".join(SIGNS.get(word, word) for word in quantity.split("_"))


def title(quantity: str) -> str:
    words = in_words(quantity)
    return words[0].upper() + words[1:]


def trace(title: str, quantity: str, curves: Sequence[Series], caption: str = "") -> Figure:
    """The curves of a quantity over steps; on a logarithmic axis where it has the span for it and no sign."""
    shown = [value for curve in curves for value in curve.y if value is not None]
    positive = [value for value in shown if value > 0]
    wide = bool(positive) and min(shown) >= 0 and max(positive) >= SPAN * min(positive)
    logarithmic = wide and not LINEAR.search(quantity)
    zeros = "Zeros are not shown on the logarithmic axis." if logarithmic and 0.0 in shown else ""
    said = " ".join(part for part in (caption, zeros) if part)
    return traces(title, curves, "step", in_words(quantity), said, logarithmic="y" if logarithmic else "")
