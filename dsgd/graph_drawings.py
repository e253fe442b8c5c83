"""Graphs drawn as figures, each laid out as its kind is usually drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dsgd.figures import COLOURS, INK, LOW, NARROW, WIDTH, Figure, Frames, canvas, rendered
from dsgd.typography import symbols
from topologies.sizes import squarest_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOUR_MAP, SHADES = "viridis", 64
REAL = 1e-9  # the imaginary part of a real number that was computed
MOST_NODES, MOST_ARROWS = 1024, 300


def draw_graph(
    graph: nx.Graph[Any],
    title: str,
    caption: str = "",
    *,
    kind: str = "",
    values: Mapping[str, Sequence[float]] | None = None,
    meaning: str = "",
    width: float = WIDTH,
) -> Figure:
    """The nodes and edges of a graph, laid out as its `kind` (a key of topologies.GRAPHS) is usually drawn.

    ValueError above 1024 nodes. Arrows show directions up to 300 edges. `values`, one a node, colour them: the last
    that are named, and on a page the others in turn. `meaning` says beside the scale of colours what they are.
    """
    if len(graph) > MOST_NODES:
        raise ValueError(f"a drawing of {len(graph)} nodes shows nothing: at most {MOST_NODES} can be drawn")
    place = positions(graph, kind)
    xs, ys = zip(*(place[node] for node in graph), strict=True)
    flat = (max(ys) - min(ys)) / (max(xs) - min(xs) or 1)
    with canvas(width * max(0.12, min(0.75, flat)) + bool(values), width) as (drawing, axes):
        size = max(3.0, min(14.0, 90 / math.sqrt(len(graph) + 1)))
        _edges(axes, graph, place, bend=0.25 if kind == "torus" else 0.0, size=size)
        if values:
            _coloured(drawing, axes, (xs, ys), [*values.values()][-1], size, symbols(meaning))
        else:
            axes.plot(xs, ys, "o", color=COLOURS[0], markersize=size, zorder=2, clip_on=False)
        axes.set_aspect("equal")
        axes.margins(0.08)
        axes.set_axis_off()
        return replace(rendered(drawing, title, caption), frames=_frames(values) if values else None)


def _coloured(
    drawing: Canvas,
    axes: Axes,
    places: tuple[Sequence[float], Sequence[float]],
    values: Sequence[float],
    size: float,
    meaning: str,
) -> None:
    """Nodes in colours, and their scale below, named so that a page finds them."""
    look: dict[str, Any] = {"cmap": COLOUR_MAP, "edgecolors": INK, "linewidths": 0.8, "zorder": 2, "clip_on": False}
    dots = axes.scatter(*places, c=values, s=(size + 2) ** 2, gid="nodes", **look)
    scale = drawing.colorbar(dots, ax=axes, location="bottom", shrink=0.7, aspect=30, label=meaning)
    scale.outline.set_visible(False)
    ends = [float(min(values)), float(max(values))]
    dots.set_clim(ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1)
    scale.set_ticks(list(dots.get_clim()), labels=[_short(end) for end in ends])
    for gid, label in zip(("least", "greatest"), scale.ax.get_xticklabels(), strict=True):
        label.set_gid(gid)


def _frames(values: Mapping[str, Sequence[float]]) -> Frames:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    palette = [to_hex(colormaps[COLOUR_MAP](k / (SHADES - 1))) for k in range(SHADES)]
    ends = [(min(found), max(found)) for found in values.values()]
    colours = ["".join(_shade(x, *of) for x in found) for of, found in zip(ends, values.values(), strict=True)]
    least, greatest = ([_short(end) for end in some] for some in zip(*ends, strict=True))
    return Frames(palette, list(values), least, greatest, colours)


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _shade(value: float, least: float, greatest: float) -> str:
    return chr(ord("0") + round((SHADES - 1) * (value - least) / (greatest - least or 1.0)))


def draw_spectrum(values: Sequence[complex], slem: float, title: str, caption: str = "") -> Figure:
    """The eigenvalues of a mixing matrix: over their rank where they are real, else in the complex plane.

    The spectral gap is the space between the two dotted lines, or circles: 1 and the second largest modulus, `slem`.
    """
    real = all(abs(value.imag) < REAL for value in values)
    with canvas(LOW, NARROW) as (drawing, axes):
        dotted: dict[str, Any] = {"color": INK, "alpha": 0.7, "linewidth": 1.0, "linestyle": (0, (1, 2))}
        if real:
            _ranked(axes, sorted((value.real for value in values), reverse=True), slem, dotted)
        else:
            _in_plane(axes, values, slem, dotted)
        return rendered(drawing, title, caption)


def _ranked(axes: Axes, values: Sequence[float], slem: float, dotted: dict[str, Any]) -> None:
    axes.plot(range(1, len(values) + 1), values, "o", color=COLOURS[0], markersize=4, clip_on=False)
    axes.axhspan(slem, 1, color=COLOURS[1], alpha=0.15, linewidth=0)
    for height in (1, slem):
        axes.axhline(height, **dotted)
    if min(values) < 0:
        axes.axhline(-slem, **dotted)
    axes.set(xlabel="k", ylabel="k-th eigenvalue of W")


def _in_plane(axes: Axes, values: Sequence[complex], slem: float, dotted: dict[str, Any]) -> None:
    from matplotlib.patches import Circle

    for radius in (1, slem):
        axes.add_patch(Circle((0, 0), radius, fill=False, **dotted))
    axes.plot([v.real for v in values], [v.imag for v in values], "o", color=COLOURS[0], markersize=4, clip_on=False)
    axes.set(xlabel="real part", ylabel="imaginary part", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")


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
