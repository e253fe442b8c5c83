"""The network of a run on its page: the graph with the replicas' distances, the spectrum of W, and what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any

from dsgd.figures import NARROW
from dsgd.graph_drawings import MOST_NODES, REAL, draw_graph, draw_spectrum
from dsgd.pages import Table
from dsgd.typography import one_line

if TYPE_CHECKING:
    import networkx as nx

    from dsgd.figures import Figure
    from topologies import Schedule
    from topologies.matrices import AnyMatrix

MOST_EDGES = 3000  # of a graph that a page draws
FACTS = {
    "n": "replicas",
    "edges": "edges",
    "weights": "weights",
    "spectral_gap": "spectral gap",
    "slem": "second largest eigenvalue modulus",
    "mixing_time": "mixing time, steps",
    "effective_neighbours": "effective neighbours",
}


OverTime = Mapping[str, Sequence[float]]  # a number for each replica, at each time that is named


@dataclass(frozen=True)
class Network:
    """Drawings and tables of a run's network; `gap` of W, or of the product over a period; what could not be shown."""

    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    gap: float | None = None
    notes: list[str] = field(default_factory=list)


def network(schedule: Schedule, of_replicas: Mapping[str, OverTime]) -> Network:
    """What a page shows of a schedule; the graph once for each quantity that is known `of_replicas`, or without any.

    ValueError where the graph or its weights cannot be, as where their file has changed.
    """
    inner = getattr(schedule, "inner", schedule)
    if inner.n > MOST_NODES:
        return Network(notes=[f"The network of {inner.n} replicas is not drawn: at most {MOST_NODES} can be."])
    fitting = {name: over for name, over in of_replicas.items() if all(len(one) == inner.n for one in over.values())}
    drawn, undrawn = _graphs(inner, {name: over for name, over in fitting.items() if over})
    spectrum, gap, unsaid = _spectrum(inner)
    return Network([*drawn, *spectrum], _facts(inner), gap, [*undrawn, *unsaid])


def _graphs(schedule: Any, of_replicas: Mapping[str, OverTime]) -> tuple[list[Figure], list[str]]:
    topology = getattr(schedule, "topology", None)
    edges = topology.edge_count() if topology else schedule.n * (schedule.period or 1)
    if edges > MOST_EDGES:
        return [], [f"The graph's {edges} edges are not drawn: at most {MOST_EDGES} are told apart."]
    graph = topology.graph_object() if topology else _heard_in_a_period(schedule)
    name = one_line(topology.graph if topology else type(schedule).__name__)
    title, kind = f"Graph: {name}, n = {schedule.n}", topology.graph if topology else "circle"
    if not of_replicas:
        return [draw_graph(graph, title, kind=kind, width=NARROW)], []
    return [
        draw_graph(
            graph,
            f"{title}: {quantity}",
            f"Colours: each replica's {quantity} at {[*over][-1]}.",
            kind=kind,
            values=over,
            meaning=quantity,
            width=NARROW,
        )
        for quantity, over in of_replicas.items()
    ], []


def _heard_in_a_period(schedule: Schedule) -> nx.Graph[int]:
    """Who hears whom in any step of a period: an edge j -> i where W_t[i, j] > 0."""
    import networkx as nx

    graph: nx.Graph[int] = nx.DiGraph()
    graph.add_nodes_from(range(schedule.n))
    for step in range(schedule.period or 1):
        rows, columns = schedule(step).sparse().nonzero()
        graph.add_edges_from((int(j), int(i)) for i, j in zip(rows, columns, strict=True) if i != j)
    return graph


def _spectrum(schedule: Any) -> tuple[list[Figure], float | None, list[str]]:
    from topologies.spectral import spectrum

    found = _fixed(schedule)
    if found is None:
        return [], None, ["W is drawn anew at every step, so that there is no one spectrum to show."]
    W, of = found
    values = [complex(value) for value in spectrum(W)]
    slem = abs(values[1]) if len(values) > 1 else 0.0
    between = "between the circles" if any(abs(value.imag) > REAL for value in values) else "what is shaded"
    said = f"Spectral gap {1 - slem:.4g}, {between}."
    return [draw_spectrum(values, slem, f"Spectrum of {of}", said)], 1 - slem, []


def _fixed(schedule: Any) -> tuple[AnyMatrix, str] | None:
    """W, where its spectrum is that of every step; else the product over a period, if there is one."""
    from topologies import Permuted, Static

    if isinstance(schedule, Static | Permuted):
        return schedule.topology.matrix(), "W"
    if schedule.period is None:
        return None
    steps = [schedule(step).sparse() for step in range(schedule.period)]
    return reduce(lambda before, W: W @ before, steps), f"the product of {len(steps)} steps' W"


def _facts(schedule: Any) -> list[Table]:
    from topologies import facts

    topology = getattr(schedule, "topology", None)
    if topology is None:
        return []
    known = facts(topology)
    rows = [(words, known[name]) for name, words in FACTS.items()]
    rows += [(f"stationary Tr Xi / (lr^2 sigma^2), {order}", S) for order, S in known["stationary_consensus"].items()]
    said = "" if type(schedule).__name__ == "Static" else "Of the graph with its weights, whatever the schedule takes."
    return [Table("Network", ("quantity", "value"), rows, said)]
