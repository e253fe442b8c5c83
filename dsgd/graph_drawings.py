"""Graphs drawn as figures, each laid out as its kind is usually drawn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dsgd.figures import COLOURS, INK, WIDTH, Figure, canvas, rendered
from topologies.sizes import squarest_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import networkx as nx
    from matplotlib.axes import Axes

MOST_NODES, MOST_ARROWS = 1024, 300


def draw_graph(graph: nx.Graph[Any], title: str, caption: str = "", *, kind: str = "") -> Figure:
    """The nodes and edges of a graph, laid out as its `kind` (a key of topologies.GRAPHS) is usually drawn.

    ValueError above 1024 nodes. Arrows show directions up to 300 edges.
    """
    if len(graph) > MOST_NODES:
        raise ValueError(f"a drawing of {len(graph)} nodes shows nothing: at most {MOST_NODES} can be drawn")
    place = positions(graph, kind)
    xs, ys = zip(*(place[node] for node in graph), strict=True)
    flat = (max(ys) - min(ys)) / (max(xs) - min(xs) or 1)
    with canvas(WIDTH * max(0.12, min(0.75, flat))) as (drawing, axes):
        size = max(3.0, min(14.0, 90 / math.sqrt(len(graph) + 1)))
        _edges(axes, graph, place, bend=0.25 if kind == "torus" else 0.0, size=size)
        axes.plot(xs, ys, "o", color=COLOURS[0], markersize=size, zorder=2, clip_on=False)
        axes.set_aspect("equal")
        axes.margins(0.08)
        axes.set_axis_off()
        return rendered(drawing, title, caption)


def positions(graph: nx.Graph[Any], kind: str = "") -> dict[Any, tuple[float, float]]:
    """Where each node is drawn: rows and columns, levels, a hub, a circle, or springs for graphs without a form."""
    import networkx as nx

    nodes = list(graph)
    if kind in ("grid", "torus", "path"):
        columns = len(nodes) if kind == "path" else squarest_factors(len(nodes))[1]
        return {node: (float(i % columns), -float(i // columns)) for i, node in enumerate(nodes)}
    if kind == "star":
        return {nodes[0]: (0.0, 0.0)} | _circle(nodes[1:])
    if kind == "binary_tree":
        return {node: _in_tree(i) for i, node in enumerate(nodes)}
    if kind == "hypercube":
        return {node: _in_cube(i, (len(nodes) - 1).bit_length()) for i, node in enumerate(nodes)}
    if kind in ("", "erdos_renyi", "random_geometric", "barbell"):
        return {node: (float(x), float(y)) for node, (x, y) in nx.kamada_kawai_layout(graph.to_undirected()).items()}
    return _circle(nodes)


def _circle(nodes: Sequence[Any]) -> dict[Any, tuple[float, float]]:
    """Nodes clockwise on the unit circle from the top."""
    turn = 2 * math.pi / max(len(nodes), 1)
    return {node: (math.sin(turn * i), math.cos(turn * i)) for i, node in enumerate(nodes)}


def _in_tree(i: int) -> tuple[float, float]:
    """The place of node i of a binary tree whose nodes are numbered level by level."""
    level = (i + 1).bit_length() - 1
    return (i + 1.5 - 2**level) / 2**level, -0.25 * level


def _in_cube(i: int, dimension: int) -> tuple[float, float]:
    """The place of corner i: the sum of one direction for each bit that is set."""
    bits = [k for k in range(dimension) if i >> k & 1]
    angles = [math.pi * (k + 0.3) / dimension for k in bits]
    lengths = [1 + 0.35 * k for k in bits]
    return (
        sum(length * math.cos(angle) for length, angle in zip(lengths, angles, strict=True)),
        sum(length * math.sin(angle) for length, angle in zip(lengths, angles, strict=True)),
    )


def _edges(
    axes: Axes, graph: nx.Graph[Any], place: Mapping[Any, tuple[float, float]], *, bend: float, size: float
) -> None:
    from matplotlib.patches import FancyArrowPatch

    arrows = graph.is_directed() and graph.number_of_edges() <= MOST_ARROWS
    look: dict[str, Any] = {"color": INK, "alpha": max(0.12, min(0.6, 25 / (graph.number_of_edges() + 1))), "zorder": 1}
    for u, v in graph.edges:
        if u == v:
            continue
        far = bend and math.dist(place[u], place[v]) > 1.5
        if arrows or far:
            head: dict[str, Any] = {
                "arrowstyle": "-|>" if arrows else "-",
                "mutation_scale": 8,
                "shrinkB": size / 2 if arrows else 0,
            }
            curve = f"arc3,rad={bend if far else 0.12}"
            axes.add_patch(FancyArrowPatch(place[u], place[v], connectionstyle=curve, linewidth=0.9, **head, **look))
        else:
            axes.plot(*zip(place[u], place[v], strict=True), linewidth=0.9, **look)
