"""Plots: numbers in, one figure out; curves, powers as straight lines, and graphs.

Series differ by colour (Okabe and Ito's, safe for colour-blind readers) and by marker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dsgd.figures import COLOURS, INK, WIDTH, Figure, canvas, rendered
from dsgd.typography import RAISED, symbols
from topologies.sizes import squarest_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_NODES, MOST_ARROWS = 1024, 300


@dataclass(frozen=True)
class Series:
    """A labelled curve; `lo` and `hi` are the ends of its error bars, `slope` a fitted power to name.

    Points follow each other along x. A y of None is a gap: the line is broken there, for nothing was measured.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    lo: Sequence[float | None] | None = None
    hi: Sequence[float | None] | None = None
    slope: float | None = None


def log_log(
    title: str,
    series: Sequence[Series],
    xlabel: str,
    ylabel: str,
    caption: str = "",
    guides: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Powers as straight lines; `guides` are (slope, label), drawn dotted beside the first points of the curves."""
    return curves(title, series, xlabel, ylabel, caption, logarithmic="xy", guides=guides)


def curves(
    title: str,
    series: Sequence[Series],
    xlabel: str,
    ylabel: str,
    caption: str = "",
    *,
    logarithmic: str = "",
    joined: bool = True,
    guides: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Curves with error bars, or clouds of points where not `joined`; `logarithmic` names axes: "x", "y" or "xy".

    Values that are missing or not finite leave gaps, on a logarithmic axis also those that are not positive. `guides`
    are powers, (slope, label), for two logarithmic axes.
    """
    with canvas() as (drawing, axes):
        axes.set(xlabel=symbols(xlabel), ylabel=symbols(ylabel))
        axes.set(**{f"{axis}scale": "log" for axis in logarithmic})
        drawn = [_drawable(curve, logarithmic) for curve in series]
        for place, curve in enumerate(drawn):
            look = _look(place, _with_slope(curve)) | ({} if joined else {"linestyle": ""})
            axes.errorbar(curve.x, _floats(curve.y), yerr=_bars(curve), capsize=2, **look)
        for place, (slope, label) in enumerate(guides):
            _guide(axes, drawn[place % len(drawn)], slope, symbols(label))
        _plain_log_ticks(axes)
        _legend(drawing, axes)
        return rendered(drawing, title, caption)


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


def _look(place: int, label: str) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "label": symbols(label)}


def _legend(drawing: Drawing, axes: Axes) -> None:
    """Below the plot, out of the curves' way, which makes the drawing taller; none without curves."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = max(1, min(len(labels), 72 // (max(map(len, labels)) + 8)))
        drawing.set_figheight(drawing.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
        drawing.legend(handles, labels, loc="outside lower left", ncols=columns)


def _with_slope(curve: Series) -> str:
    return curve.label if curve.slope is None else f"{curve.label} (slope {curve.slope:.2f})"


def _drawable(curve: Series, logarithmic: str) -> Series:
    """The curve with None for what its axes cannot show, its error bars without such ends."""
    kept = [i for i, x in enumerate(curve.x) if x > 0 or "x" not in logarithmic]
    above = 0.0 if "y" in logarithmic else -math.inf
    x, y = [curve.x[i] for i in kept], [_above(curve.y[i], above) for i in kept]
    if curve.lo is None or curve.hi is None:
        return replace(curve, x=x, y=y, lo=None, hi=None)
    low, high = ([_above(ends[i], above) for i in kept] for ends in (curve.lo, curve.hi))
    lo = [at if at is None or end is None or end > at else end for end, at in zip(low, y, strict=True)]
    hi = [at if at is None or end is None or end < at else end for end, at in zip(high, y, strict=True)]
    return replace(curve, x=x, y=y, lo=lo, hi=hi)


def _above(value: float | None, least: float) -> float | None:
    """The value if it is finite and above the least."""
    return float(value) if value is not None and least < value < math.inf else None


def _bars(curve: Series) -> tuple[list[float], list[float]] | None:
    """The lengths of the error bars below and above each point."""
    if curve.lo is None or curve.hi is None:
        return None
    ends = list(zip(_floats(curve.lo), _floats(curve.y), _floats(curve.hi), strict=True))
    return [y - lo for lo, y, _ in ends], [hi - y for _, y, hi in ends]


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _guide(axes: Axes, curve: Series, slope: float, label: str) -> None:
    """A dotted line of the given power, named at its left end, a factor below the curve so that it does not hide it."""
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
    if not points:
        return
    (at, start), ends = min(points), (min(points)[0], max(points)[0])
    heights = [start / 2 * (end / at) ** slope for end in ends]
    axes.plot(ends, heights, linestyle=(0, (1, 2)), color=INK, alpha=0.7, linewidth=1.2)
    axes.annotate(label, (ends[0], heights[0]), (-5, -3), textcoords="offset points", ha="right", alpha=0.8)


def _plain_log_ticks(axes: Axes) -> None:
    """Powers of ten written with superscript characters: text that every reader's font can show."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = sorted(axis.get_view_interval())
            short = math.log10(high / low) < 1.7 if low > 0 else False
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,), numticks=9))
            axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
            axis.set_minor_formatter(NullFormatter())


def power_of_ten(value: float) -> str:
    """1e-5 as 10⁻⁵ and 2e-5 as 2·10⁻⁵; numbers between 0.001 and 1000 as they are."""
    if value <= 0 or 1e-3 < value < 1e3:
        return f"{value:g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    power = "10" + str(int(exponent)).translate(RAISED)
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"


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
