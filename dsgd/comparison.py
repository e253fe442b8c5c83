"""Runs beside each other: what differs in their configurations, what they measured last, their curves overlaid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgd import measured
from dsgd.pages import Table, inline, template
from dsgd.records import flat, number_in
from dsgd.run_report import cell
from dsgd.typography import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dsgd.figures import Figure
    from dsgd.records import Record

NOT_THE_RUN = frozenset(  # settings that name no curve, for they change none
    {"name", "backend", "checkpoint_every", "on_full_disk", "metrics", "measure_every", "snapshot_every"}
)
MOST_NAMED = 3  # settings that a curve's name says
LONGEST_NAME = 48


SEEDS = 3  # at least, of which the mean is drawn and not each


@dataclass(frozen=True)
class Comparison:
    """Runs and their labels; `settings` are those that differ, a value a run, None where a run has no such setting.

    `curves` are the runs drawn together, by what the curve is called: those that differ in the seed alone, or one.
    """

    records: Sequence[Record]
    labels: Sequence[str]
    settings: Mapping[str, Sequence[Any]]
    same: int
    curves: Mapping[str, Sequence[Record]]

    @property
    def metrics(self) -> dict[str, list[Any]]:
        """The newest value of every column, a value a run, in the order of the first that has it."""
        latest = [record.latest() for record in self.records]
        names = dict.fromkeys(name for found in latest for name in found)
        return {name: [found.get(name, (None, 0))[0] for found in latest] for name in names}

    @property
    def tables(self) -> list[Table]:
        """What differs, and what was measured last, a row a quantity and a column a run."""
        ends = [f"{record.status}, step {record.steps}" for record in self.records]
        settings = [("run", [record.name for record in self.records]), ("ended", ends), *self.settings.items()]
        numbers = {name: values for name, values in self.metrics.items() if any(map(_scalar, values))}
        return [
            _table("What differs", "setting", self.labels, settings, f"{self.same} settings are the same."),
            _table("Latest values", "measurement", self.labels, numbers.items()),
        ]

    @property
    def figures(self) -> list[tuple[str, list[Figure]]]:
        """A figure a column, a curve a run: first what is main and more than one run has."""
        twins = [str(t.get("name")) for r in self.records for t in r.config.get("twins") or [] if isinstance(t, dict)]
        found = [column for record in self.records for column in measured.columns(record.rows, twins)]
        counts = Counter(column.name for column in found)
        groups = measured.grouped({column.name: column for column in found}.values())
        every = [column for columns in groups.values() for column in columns]
        main = [column for column in every if column.quantity in measured.MAIN and counts[column.name] > 1]
        further = [column for column in every if column not in main]
        return [("Curves", list(map(self._overlaid, main))), ("Further curves", list(map(self._overlaid, further)))]

    def _overlaid(self, column: measured.Column) -> Figure:
        curves = [measured.over_seeds([r.rows for r in some], column, label) for label, some in self.curves.items()]
        averaged = any(len(some) > 1 for some in self.curves.values())
        whose = column.whose if averaged else column.label
        title = ", ".join(part for part in (measured.title(column.quantity), whose) if part)
        said = "Means over seeds, with their 95 % intervals." if averaged else ""
        return measured.trace(title, column.quantity, curves, said)


def comparison(records: Sequence[Record]) -> Comparison:
    """The runs, each labelled by what of its configuration differs, or else by its folder."""
    configs = [flat(record.config) for record in records]
    names = _in_groups(name for config in configs for name in config)
    settings = {name: [config.get(name) for config in configs] for name in names}
    differing = {name: values for name, values in settings.items() if any(value != values[0] for value in values)}
    labels = [_drawn(label) for label in _labels(records, differing)]
    curves = _curves(records, labels, differing)
    return Comparison(records, labels, differing, len(settings) - len(differing), curves)


def _curves(
    records: Sequence[Record], labels: Sequence[str], differing: Mapping[str, Sequence[Any]]
) -> dict[str, list[Record]]:
    """Runs of SEEDS seeds and more that differ in nothing else that counts as one curve, every other as its own."""
    telling = {name: values for name, values in _telling(differing).items() if name != "seed"}
    groups: dict[str, list[int]] = {}
    for i in range(len(records)):
        groups.setdefault(repr([values[i] for values in telling.values()]), []).append(i)
    curves: dict[str, list[Record]] = {}
    for places in groups.values():
        if len({records[i].config.get("seed") for i in places}) == len(places) >= SEEDS:
            common = _said(telling, places[0]) or "all"
            curves[_drawn(f"{common} ({len(places)} seeds)")] = [records[i] for i in places]
        else:
            curves |= {labels[i]: [records[i]] for i in places}
    return curves


def _in_groups(names: Iterable[str]) -> list[str]:
    """The names, each once, those with the same first word together."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(name.split(".")[0], {})[name] = None
    return [name for group in groups.values() for name in group]


def render(found: Comparison) -> str:
    """The whole page."""
    return template("compare.html.j2").render(
        name=f"{len(found.records)} runs compared",
        kicker="dsgd compare",
        headline=[_headline(found)],
        boards=[(title, inline(figures)) for title, figures in found.figures if figures],
        tables=found.tables,
    )


def _headline(found: Comparison) -> str:
    if not found.settings:
        return f"Their configurations are the same in all {found.same} settings."
    differ = "setting differs" if len(found.settings) == 1 else "settings differ"
    return f"{len(found.settings)} {differ}, {found.same} are the same."


def _labels(records: Sequence[Record], differing: Mapping[str, Sequence[Any]]) -> list[str]:
    """A name for each run: the settings that differ where these are few and tell all runs apart, else its folder."""
    telling = _telling(differing)
    labels = [_said(telling, i) for i in range(len(records))]
    folders = _folder_names(records)
    if not telling or len(telling) > MOST_NAMED or max(map(len, labels)) > LONGEST_NAME or not all(labels):
        return folders
    twice = {label for label in labels if labels.count(label) > 1}
    named = zip(labels, folders, strict=True)
    return [f"{label} ({folder})" if label in twice else label for label, folder in named]


def _telling(differing: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    return {name: values for name, values in differing.items() if name.split(".")[0] not in NOT_THE_RUN}


def _said(telling: Mapping[str, Sequence[Any]], i: int) -> str:
    """What tells run i from others, in words."""
    values = ((_short(name, telling), cell(found[i])) for name, found in telling.items() if found[i] is not None)
    return ", ".join(f"{name}={value}" for name, value in values)


def _drawn(label: str) -> str:
    """The label as matplotlib draws it: without what SVG cannot hold, and named though it begins with a line."""
    return f" {one_line(label)}" if label.startswith("_") else one_line(label)


def _folder_names(records: Sequence[Record]) -> list[str]:
    """The folders' last names, or their paths where these are alike."""
    names = [record.name for record in records]
    return names if len(set(names)) == len(names) else [str(record.path) for record in records]


def _short(name: str, others: Mapping[str, Any]) -> str:
    """The last word of a setting that tells it from the others: `topology.graph.name` is graph."""
    parts = name.split(".")
    parts = parts[:-1] if parts[-1] == "name" and len(parts) > 1 else parts
    alike = [other for other in others if other.removesuffix(".name").split(".")[-1] == parts[-1]]
    return parts[-1] if len(alike) == 1 else ".".join(parts)


def _table(title: str, first: str, labels: Sequence[str], rows: Any, caption: str = "") -> Table:
    return Table(title, (first, *labels), [[name, *map(cell, values)] for name, values in rows], caption)


def _scalar(value: Any) -> bool:
    return number_in(value) is not None
