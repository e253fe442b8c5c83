"""The gallery of topologies: every graph drawn, the spectrum of its W, rules for the weights and schedules compared."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import cache
from inspect import getdoc
from typing import Any

import numpy as np

from dsgd.figures import Figure
from dsgd.graph_drawings import draw_graph, draw_spectrum
from dsgd.plots import Series, curves
from extension.prose import documentation, markdown, table
from topologies import (
    GRAPHS,
    SCHEDULES,
    WEIGHTS,
    OnePeerExponential,
    Periodic,
    Permuted,
    RandomMatching,
    Schedule,
    Static,
    Topology,
    facts,
    spectral_gap,
    spectrum,
)

N = 16
WIDE, HIGH_ENOUGH = 3.6, 1e-3
STEPS = 24
OVERVIEW = ("graph", "edges", "degree", "weights", "gap", "SLEM", "mixing time", "effective neighbours", "S(P)")
RULES = tuple(rule for rule in WEIGHTS if rule != "auto")
RING = Topology("ring", N)
COMPARED: dict[str, Schedule] = {
    "static": Static(RING),
    "permuted": Permuted(RING),
    "random_matching": RandomMatching(RING),
    "periodic, every 4": Periodic(Static(RING), 4),
    "one_peer_exponential": OnePeerExponential(N),
}


@cache
def known(name: str) -> dict[str, Any]:
    """The facts of a graph of 16 nodes with the weights that `auto` takes, and its degrees."""
    topology = Topology(name, N)
    graph: Any = topology.graph_object()
    degrees = sorted({d for _, d in (graph.out_degree if graph.is_directed() else graph.degree)})
    degree = str(degrees[0]) if len(degrees) == 1 else f"{degrees[0]} to {degrees[-1]}"
    return facts(topology) | {"degree": degree}


def overview() -> str:
    """All graphs in one table, the quickest to mix first."""
    return table(OVERVIEW, [_row(name) for name in sorted(GRAPHS, key=lambda name: known(name)["slem"])])


def _row(name: str) -> tuple[str, ...]:
    found = known(name)
    numbers = (found["spectral_gap"], found["slem"], found["mixing_time"], found["effective_neighbours"])
    consensus = found["stationary_consensus"]["consensus"]
    texts = (f"{number:.4g}" for number in (*numbers, consensus))
    return f"[{name}](#graph-{name.replace('_', '-')})", str(found["edges"]), found["degree"], found["weights"], *texts


def graphs() -> str:
    """A section for each graph: what it is, its drawing and its eigenvalues."""
    return "\n".join(_section(name) for name in GRAPHS)


def _section(name: str) -> str:
    topology, found = Topology(name, N), known(name)
    drawn = draw_graph(topology.graph_object(), f"{name}, n = {N}", kind=name, width=WIDE)
    values = [complex(value) for value in spectrum(topology.matrix())]
    said = f"{found['edges']} edges, degree {found['degree']}, `{found['weights']}`: gap {found['spectral_gap']:.4g}."
    spectral = draw_spectrum(values, found["slem"], f"Eigenvalues of W, {name}")
    head = f"(graph-{name.replace('_', '-')})=\n### {name}\n\n{documentation(GRAPHS[name])}\n\n{said}\n"
    return f"{head}\n{figures(drawn, spectral)}\n"


def figures(*drawn: Figure) -> str:
    """Drawings side by side, as HTML in Markdown."""
    inside = "\n".join(
        f"<figure>\n{one.svg}\n<figcaption>{html.escape(one.caption)}</figcaption>\n</figure>" for one in drawn
    )
    return f'<div class="drawings">\n{inside}\n</div>\n'


def rules() -> str:
    """What each rule for the weights is, and the gap that it gives each graph."""
    told = "\n".join(f"- `{name}`: {documentation(rule)}" for name, rule in WEIGHTS.items()).replace("\n\n", "\n\n  ")
    rows = [(f"`{name}`", *(_gap(name, rule) for rule in RULES)) for name in GRAPHS]
    return f"{told}\n\n{table(('gap of W', *(f'`{rule}`' for rule in RULES)), rows)}"


def _gap(graph: str, rule: str) -> str:
    """A dash where the rule refuses the graph."""
    try:
        return f"{spectral_gap(Topology(graph, N, rule).matrix()):.4g}"
    except ValueError:
        return "–"


def schedules() -> str:
    """What each schedule is, and how fast gossip alone brings replicas together by it."""
    told = "\n\n".join(f"`{name}`\n: {_indented(kind)}" for name, kind in SCHEDULES.items())
    steps = range(STEPS + 1)
    drawn = curves(
        "Gossip alone",
        [Series(name, list(steps), _distances(schedule)) for name, schedule in COMPARED.items()],
        "steps",
        "distance to the mean",
        f"Root mean square distance to their mean of {N} replicas that start at independent places, by W_t alone, "
        "seed 0; all but the last go along a ring. One peer of the exponential graph a step is done after 4.",
        logarithmic="y",
    )
    return f"{told}\n\n{figures(drawn)}"


def _indented(part: Callable[..., Any]) -> str:
    return markdown(getdoc(part) or "").replace("\n", "\n  ")


def _distances(schedule: Schedule) -> list[float | None]:
    """sqrt(|W_t ... W_1 - J|_F^2 / n) after each step; None once nothing but rounding is left."""
    product, found = np.eye(schedule.n), list[float | None]()
    for step in range(STEPS + 1):
        away = float(np.linalg.norm(product - 1 / schedule.n) / np.sqrt(schedule.n))
        found.append(away if away > HIGH_ENOUGH else None)
        product = schedule(step).sparse() @ product
    return found
