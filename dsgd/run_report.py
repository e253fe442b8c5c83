"""The report of a run: one page of its headline numbers, curves, graph, spectrum, configuration and events."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from dsgd import measured
from dsgd.pages import Table, inline, number, template
from dsgd.records import flat, number_in
from dsgd.results import to_json
from dsgd.run_network import Network, network
from dsgd.typography import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgd.figures import Figure
    from dsgd.measured import Column
    from dsgd.pages import Cell
    from dsgd.records import Record
    from dsgd.results import Row
    from topologies import Schedule

MOST_CELLS = 20_000  # of a table that a page shows whole
LONGEST = 6  # numbers of a list that a cell spells out
MOST_FRAMES = 100  # of a graph whose colours change over time
DISTANCE = "distance to the mean"
OF_REPLICAS = {DISTANCE: "replica_distances", "test loss": "replica_test_losses"}
MAIN_FIGURES = frozenset(measured.MAIN)
CARDS = (
    ("test accuracy", "test_accuracy_mean_model", "mean model"),
    ("test loss", "test_loss_mean_model", "mean model"),
    ("worst replica", "test_accuracy_replicas_worst", "test accuracy"),
    ("consensus distance", "consensus_distance", "root mean square"),
    ("train loss", "train_loss_mean_model", "mean model"),
    ("generalization gap", "generalization_gap_mean_model", "test loss less train loss"),
)
ENDED = {
    "ok": "Finished",
    "running": "Running",
    "interrupted": "Interrupted",
    "failed": "Failed",
    "unfinished": "Not finished, and no process is at it",
}


@dataclass(frozen=True)
class RunReport:
    """What a run's page shows; `further` are the figures of what is not among the main measurements."""

    record: Record
    command: str
    curves: list[Figure] = field(default_factory=list)
    network: list[Figure] = field(default_factory=list)
    further: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    gap: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def boards(self) -> list[tuple[str, list[Figure]]]:
        return [("Curves", self.curves), ("Network", self.network), ("Further measurements", self.further)]

    @property
    def figures(self) -> list[Figure]:
        return [*self.curves, *self.network, *self.further]


def run_report(record: Record, command: str, schedule: Schedule | None, notes: Sequence[str] = ()) -> RunReport:
    """The report of a run that `command` repeats, `schedule` its mixing matrices where its configuration was read."""
    found = _network(record, schedule)
    twins = [str(twin.get("name")) for twin in record.config.get("twins") or [] if isinstance(twin, dict)]
    curves = _figures(record, twins)
    main = [figure for quantity, figure in curves if quantity in MAIN_FIGURES]
    further = [figure for quantity, figure in curves if quantity not in MAIN_FIGURES]
    tables = [last_table(record), history_table(record), replicas_table(record), *found.tables]
    tables += [config_table(record), events_table(record)]
    return RunReport(record, command, main, found.figures, further, tables, found.gap, [*notes, *found.notes])


def render(report: RunReport, refresh: int = 0) -> str:
    """The whole page; it loads itself again every `refresh` seconds, if any. ValueError for a figure not inert."""
    record = report.record
    tables = [one for one in report.tables if len(one.rows) * len(one.columns) <= MOST_CELLS]
    large = [f"“{one.title}” has {len(one.rows)} rows: --csv writes it." for one in report.tables if one not in tables]
    return template("run.html.j2").render(
        name=record.name,
        kicker=kicker(record),
        headline=headline(record),
        calm=record.status in ("ok", "running"),
        cards=cards(record, report.gap),
        boards=[(title, inline(figures)) for title, figures in report.boards if figures],
        tables=[table for table in tables if table.rows],
        notes=[*report.notes, *large],
        command=report.command,
        facts=facts(record),
        refresh=refresh,
    )


def kicker(record: Record) -> str:
    """Task, model, gradient and graph in a few words, as the configuration names them."""
    names = [_named(record.config.get(part)) for part in ("task", "model", "gradient", "algorithm")]
    return " · ".join(["dsgd run", *(name for name in names if name)])


def headline(record: Record) -> list[str]:
    """How the run ended or how far it is, in a sentence or two."""
    total, seconds = record.config.get("steps"), record.summary.get("seconds")
    took = f" in {duration(seconds)}" if isinstance(seconds, int | float) and not record.running else ""
    said = [f"{ENDED.get(record.status, record.status)}: {record.steps} of {total} steps{took}."]
    if error := record.summary.get("error"):
        said += [str(error)] * (not record.running)
    return said


def cards(record: Record, gap: float | None = None) -> list[tuple[str, str, str]]:
    """The headline numbers: name, value, and what it is of."""
    found = [(name, record.newest(column), of) for name, column, of in CARDS]
    shown = [(name, number(value), of) for name, value, of in found if value is not None]
    if gap is not None:
        shown.append(("spectral gap", number(gap), "of W"))
    if (sent := record.newest("bytes_sent")) is not None:
        shown.append(("sent", in_bytes(sent), "by all replicas"))
    if isinstance(pace := record.summary.get("replica_steps_per_second"), int | float):
        shown.append(("pace", number(float(pace)), "replica-steps a second"))
    return shown


def in_bytes(count: float) -> str:
    """673 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def facts(record: Record) -> list[tuple[str, str]]:
    """Where and by what the run was computed."""
    machine, versions = record.environment, record.environment.get("versions")
    known = versions.items() if isinstance(versions, dict) else ()
    said = {
        "machine": f"{machine.get('platform', 'unknown')}, {machine.get('cpus', '?')} CPUs",
        "device": f"{machine.get('device', 'unknown')}, {machine.get('threads', '?')} threads",
        "versions": ", ".join(f"{name} {version or 'unknown'}" for name, version in known) or "unknown",
        "commit": machine.get("git") or "unknown, not run from a checkout",
        "data": f"SHA-256 {record.summary['data_sha256']}" if "data_sha256" in record.summary else "",
        "folder": str(record.path),
    }
    return [(name, str(text)) for name, text in said.items() if text]


def last_table(record: Record) -> Table:
    """The newest value of every column."""
    latest = ((name, *pair) for name, pair in record.latest().items() if name not in OF_REPLICAS.values())
    rows = [(name, cell(value), step) for name, value, step in latest]
    return Table("Latest values", ("measurement", "value", "step"), rows)


def history_table(record: Record) -> Table:
    """All measurements, a row a step."""
    names = (name for row in record.rows for name in row if name not in OF_REPLICAS.values())
    columns = list(dict.fromkeys(["step", *names]))
    rows = [[cell(row.get(name)) for name in columns] for row in record.rows]
    return Table("Measurements", columns, rows)


def replicas_table(record: Record) -> Table:
    """What is known of every replica, a row for each at each step."""
    names = {quantity: column for quantity, column in OF_REPLICAS.items() if any(column in row for row in record.rows)}
    rows: list[tuple[Cell, ...]] = []
    for row in record.rows:
        found = zip_longest(*(_of_replicas(row, column) for column in names.values()))
        rows += [(row["step"], j, *values) for j, values in enumerate(found)]
    return Table("Replicas", ("step", "replica", *names), rows)


def config_table(record: Record) -> Table:
    rows = [(name, cell(value)) for name, value in flat(record.config).items()]
    return Table("Configuration", ("setting", "value"), rows, "Resolved: every default is filled in.")


def events_table(record: Record) -> Table:
    rows = [
        (cell(event.get("time")), cell(event.get("event")), _details(event), cell(event.get("sentence")))
        for event in record.events
    ]
    return Table("Events", ("time", "event", "details", "sentence"), rows)


def cell(value: Any) -> Cell:
    """A value of JSON as a table's cell: lists in brackets, long ones by their length alone."""
    if isinstance(value, list) and len(value) > LONGEST:
        return f"{len(value)} values"
    if isinstance(value, list | dict | bool):
        return to_json(value)
    return value


def _details(event: Mapping[str, Any]) -> str:
    more = {key: value for key, value in event.items() if key not in ("time", "event", "sentence")}
    return ", ".join(f"{key} {value if isinstance(value, str) else to_json(value)}" for key, value in more.items())


def _figures(record: Record, twins: Sequence[str]) -> list[tuple[str, Figure]]:
    groups = measured.grouped(measured.columns(record.rows, twins))
    return [(quantity, _figure(record, quantity, columns)) for quantity, columns in groups.items()]


def _figure(record: Record, quantity: str, columns: Sequence[Column]) -> Figure:
    named = zip(columns, measured.labels(columns), strict=True)
    curves = [measured.series(record.rows, column, label) for column, label in named]
    return measured.trace(measured.title(quantity), quantity, curves)


def _network(record: Record, schedule: Schedule | None) -> Network:
    """The network, coloured by what is known of the replicas; what could not be shown is said."""
    if schedule is None:
        return Network()
    try:
        return network(schedule, {quantity: _over_time(record, column) for quantity, column in OF_REPLICAS.items()})
    except (ValueError, OSError, ArithmeticError) as error:
        return Network(notes=[f"The network is not shown: {error}."])


def _over_time(record: Record, column: str) -> dict[str, list[float]]:
    """The replicas' values of a column at steps where all are numbers: MOST_FRAMES at most, the last among them."""
    found = [(f"step {row['step']}", _of_replicas(row, column)) for row in record.rows]
    whole = [(name, [x for x in values if x is not None]) for name, values in found if values and None not in values]
    apart = max(1, -(-len(whole) // MOST_FRAMES))
    return dict(whole[(len(whole) - 1) % apart :: apart]) if whole else {}


def _of_replicas(row: Row, column: str) -> list[float | None]:
    values = row.get(column)
    return list(map(number_in, values)) if isinstance(values, list) else []


def _named(part: Any) -> str:
    return str(part.get("name", "")) if isinstance(part, dict) else str(part or "")
