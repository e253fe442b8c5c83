"""Plots: numbers in, one figure out; powers as straight lines, curves over steps, estimates in a row each, graphs.

Series differ by colour (Okabe and Ito's, safe for colour-blind readers) and by marker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dsgd.figures import COLOURS, INK, WIDTH, Figure, canvas, rendered
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
    """A labelled curve; `lo` and `hi` are the ends of its error bars or band, `slope` a fitted power to name."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    lo: Sequence[float | None] | None = None
    hi: Sequence[float | None] | None = None
    slope: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A labelled estimate with its interval, None where there is none."""

    label: str
    estimate: float
    lo: float | None = None
    hi: float | None = None


def log_log(
    title: str,
    series: Sequence[Series],
    xlabel: str,
    ylabel: str,
    caption: str = "",
    guides: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Powers as straight lines; `guides` are (slope, label), drawn dotted beside the first points of the curves.

    Values that are missing, not finite or not positive are left out: a logarithmic axis has no place for them.
    """
    with canvas() as (drawing, axes):
        axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
        drawn = [_positive(curve) for curve in series]
        for place, curve in enumerate(drawn):
            axes.errorbar(curve.x, _floats(curve.y), yerr=_bars(curve), capsize=2, **_look(place, _with_slope(curve)))
        for place, (slope, label) in enumerate(guides):
            _guide(axes, drawn[place % len(drawn)], slope, label)
        _plain_log_ticks(axes)
        _legend(drawing, axes, least=1)
        return rendered(drawing, title, caption)


def lines(
    title: str,
    series: Sequence[Series],
    xlabel: str = "steps",
    ylabel: str = "",
    caption: str = "",
    *,
    log_y: bool = False,
) -> Figure:
    """Curves over steps, each with its band from `lo` to `hi`; a missing value leaves a gap."""
    with canvas() as (drawing, axes):
        axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log_y else "linear")
        for place, curve in enumerate(series):
            marker: dict[str, Any] = {"marker": "", "linestyle": ("-", "--", "-.", ":")[place // len(COLOURS) % 4]}
            axes.plot(curve.x, _floats(curve.y), **_look(place, curve.label) | marker)
            if curve.lo is not None and curve.hi is not None:
                band: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "alpha": 0.18, "linewidth": 0}
                axes.fill_between(curve.x, _floats(curve.lo), _floats(curve.hi), **band)
        if log_y:
            _plain_log_ticks(axes)
        _legend(drawing, axes)
        return rendered(drawing, title, caption)


def intervals(
    title: str,
    estimates: Sequence[Estimate],
    xlabel: str = "",
    caption: str = "",
    *,
    band: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """A forest plot: each estimate with its interval in a row, the first on top, over the accepted `band`."""
    with canvas(0.9 + 0.32 * len(estimates)) as (drawing, axes):
        rows = range(len(estimates))
        for row, one in zip(rows, estimates, strict=True):
            colour = COLOURS[0] if _inside(one, band) else COLOURS[1]
            ends = (one.estimate if one.lo is None else one.lo, one.estimate if one.hi is None else one.hi)
            axes.plot(ends, (row, row), color=colour, solid_capstyle="butt")
            axes.plot(one.estimate, row, "o", color=colour, markerfacecolor=colour if _inside(one, band) else "none")
        left, right = _reach(estimates, band)
        axes.set(xlim=(left, right), ylim=(len(estimates) - 0.4, -0.6), xlabel=xlabel)
        axes.axvspan(*(edge if end is None else end for end, edge in zip(band, (left, right), strict=True)), **_SHADE)
        for end in band:
            if end is not None:
                axes.axvline(end, color=INK, linewidth=0.8, alpha=0.5)
        axes.set_yticks(list(rows), [one.label for one in estimates])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
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


_SHADE: dict[str, Any] = {"color": COLOURS[2], "alpha": 0.14, "linewidth": 0, "zorder": 0}


def _look(place: int, label: str) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "label": label}


def _legend(drawing: Drawing, axes: Axes, least: int = 2) -> None:
    """Below the plot, out of the curves' way, which makes the drawing taller; none below `least` curves."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) >= least:
        columns = max(1, min(len(labels), 72 // (max(map(len, labels)) + 8)))
        drawing.set_figheight(drawing.get_figheight() + 0.2 * math.ceil(len(labels) / columns))
        drawing.legend(handles, labels, loc="outside lower left", ncols=columns)


def _with_slope(curve: Series) -> str:
    return curve.label if curve.slope is None else f"{curve.label} (slope {curve.slope:.2f})"


def _positive(curve: Series) -> Series:
    """The curve without the points that a logarithmic axis cannot show, its error bars without such ends."""
    kept = [i for i, (x, y) in enumerate(zip(curve.x, _floats(curve.y), strict=True)) if x > 0 and 0 < y < math.inf]
    x, y = [curve.x[i] for i in kept], [float(curve.y[i] or 0) for i in kept]
    if curve.lo is None or curve.hi is None:
        return replace(curve, x=x, y=y, lo=None, hi=None)
    lo, hi = _floats(curve.lo), _floats(curve.hi)
    low = [lo[i] if 0 < lo[i] <= at else at for i, at in zip(kept, y, strict=True)]
    high = [hi[i] if at <= hi[i] < math.inf else at for i, at in zip(kept, y, strict=True)]
    return replace(curve, x=x, y=y, lo=low, hi=high)


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
    if not curve.x:
        return
    ends = (min(curve.x), max(curve.x))
    at, start = min(zip(curve.x, _floats(curve.y), strict=True))
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
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if float(mantissa) == 1 else f"{float(mantissa):g}·{power}"


def _inside(one: Estimate, band: tuple[float | None, float | None]) -> bool:
    low, high = band
    return (low is None or one.estimate >= low) and (high is None or one.estimate <= high)


def _reach(estimates: Sequence[Estimate], band: tuple[float | None, float | None]) -> tuple[float, float]:
    """The ends of an axis that shows all estimates, their intervals and the band, with a margin."""
    shown = [value for one in estimates for value in (one.estimate, one.lo, one.hi) if value is not None]
    shown += [end for end in band if end is not None]
    room = 0.06 * (max(shown) - min(shown)) or 0.06 * abs(shown[0]) or 1.0
    return min(shown) - room, max(shown) + room


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
