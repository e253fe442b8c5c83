"""Which workloads are run, and how their figures are laid out: a JSON object, a table, a figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from dsgd.atomic import write_atomically
from dsgd.plots import Series, log_log
from dsgd.results import environment, to_json

from .memory import peak
from .speed import Contenders, measured
from .workloads import Workload

Row = dict[str, Any]

BRIEF = (
    *(Workload(n=n) for n in (16, 64, 256)),
    Workload(batch_size=128),
    Workload("cnn"),
    Workload("resnet8"),
    *(Workload(n=n, threads=2) for n in (16, 64)),
    Workload(batch_size=128, threads=2),
    Workload("cnn", threads=2),
)
FULL = (
    *(Workload(n=n, batch_size=b) for n, b in product((16, 64, 256, 1024), (8, 32, 128)) if n * b <= 2**15),
    *(Workload(n=n, graph=graph) for n, graph in product((16, 64, 256), ("exponential", "complete"))),
    *(Workload(model, batch_size=b, threads=t) for model, b, t in product(("cnn", "resnet8"), (8, 32), (1, 2))),
    *(Workload("cnn", n=64), Workload("resnet8", n=64)),
    *(Workload(n=n, threads=2) for n in (16, 64, 256, 1024)),
    *(Workload(batch_size=b, threads=2) for b in (8, 128)),
)
ON_GPU = (
    *(Workload(n=n) for n in (16, 256, 1024)),
    *(Workload("resnet18", n=n) for n in (16, 64)),
)


def rows(
    workloads: Sequence[Workload], seconds: float, device: str, others: Contenders, tell: Callable[[str], None]
) -> Iterator[Row]:
    """One row a workload, told of in a line when it is measured; memory is measured on the CPU only."""
    for workload in workloads:
        row = measured(workload, seconds, device, others)
        row |= peak(workload) if device == "cpu" else {}
        tell(line(row))
        yield row


def line(row: Mapping[str, Any]) -> str:
    """The row in a few words."""
    return (
        f"{row['model']} n={row['n']} B={row['batch_size']} {row['graph']} threads={row['threads']}: "
        f"{1e3 * row['seconds']['ours']:.2f} ms a step, {row['over_floor']:.2f} x floor, "
        f"{row['over_centralised']:.2f} x centralised, gossip {row['gossip_share']:.0%}"
    )


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown."""
    names = [name for row in found for name in row["times_faster_than"]]
    others = list(dict.fromkeys(names))
    head = ["model", "n", "B", "graph", "threads", "ms a step", "quartiles", "x floor", "x centralised", "gossip"]
    head += ["peak / ensemble, to worst", "replica-steps/s", *(f"{name}, x ours" for name in others)]
    lines = [head, ["---"] * len(head), *([*_cells(row), *_faster(row, others)] for row in found)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["quartiles"]["ours"]
    memory = [row[name] for name in ("peak_over_ensemble", "worst_peak_over_ensemble") if name in row]
    return [
        *(str(row[name]) for name in ("model", "n", "batch_size", "graph", "threads")),
        f"{1e3 * row['seconds']['ours']:.2f}",
        f"{1e3 * low:.2f} to {1e3 * high:.2f}",
        f"{row['over_floor']:.2f}",
        f"{row['over_centralised']:.2f}",
        f"{row['gossip_share']:.0%}",
        " to ".join(f"{peak:.1f}" for peak in memory) or "–",
        f"{row['replica_steps_per_second']:.0f}",
    ]


def _faster(row: Mapping[str, Any], others: Sequence[str]) -> list[str]:
    return [f"{row['times_faster_than'][name]:.1f}" if name in row["times_faster_than"] else "–" for name in others]


def write(folder: Path, found: Sequence[Row], device: str) -> None:
    """`speed.json`, `speed.md` and `speed.svg` with the facts of the machine."""
    facts = environment(device)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "speed.json", to_json({"machine": facts, "rows": found}, indent=1) + "\n")
    named = ", ".join(f"{k} {v}" for k, v in facts.items() if not isinstance(v, dict))
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    text = f"# Speed and memory\n\n{named}; {versions}.\n\n{table(found)}"
    write_atomically(folder / "speed.md", text)
    if len(_growing(found)) > 1:
        write_atomically(folder / "speed.svg", _figure(_growing(found)))


def _growing(found: Sequence[Row]) -> list[Row]:
    """The rows in which only n differs: the MLP on the ring at the default batch, one thread."""
    alike = [
        row for row in found if Workload(n=row["n"]) == Workload(*(row[name] for name in Workload.__annotations__))
    ]
    return sorted(alike, key=lambda row: int(row["n"]))


def _figure(grown: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in grown for name in row["seconds"]))
    shown = [name for name in names if name not in ("without gossip", "kernels", "copy")]
    series = []
    for name in ["floor", *shown]:
        points = [(row["n"], row["floor"] if name == "floor" else row["seconds"].get(name)) for row in grown]
        kept = [(n, value) for n, value in points if value is not None]
        series.append(Series(name, [n for n, _ in kept], [value for _, value in kept]))
    return log_log("Seconds a step", series, "replicas n", "seconds a step", "MLP 784-200-10, ring, B = 32").svg
