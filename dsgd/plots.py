"""Plots: numbers in, one figure out; curves, powers as straight lines, and surfaces.

Series differ by colour (Okabe and Ito's, safe for colour-blind readers) and by marker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dsgd.figures import COLOURS, INK, LOW, NARROW, Figure, canvas, rendered
from dsgd.typography import RAISED, symbols

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
TALL = 5.2  # inches, for a plane
MOST_LEVELS = 10  # contour lines, about
DENSEST = 0.3  # opacity of the ink above the highest of them
MOST_POINTS, MOST_MARKERS = 400, 10  # of a trace
WITHIN_TEN = ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))  # levels in a power of ten, as many as are not too many


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
        plain_log_ticks(axes)
        _legend(drawing, axes)
        return rendered(drawing, title, caption)


def traces(
    title: str, series: Sequence[Series], xlabel: str, ylabel: str, caption: str = "", *, logarithmic: str = ""
) -> Figure:
    """What was measured over steps: lines, and a band from `lo` to `hi` where a curve has them; as `curves` otherwise.

    Of a long curve every few points' least and greatest are drawn, at most 400. One without points keeps its colour
    from the others, and is not named.
    """
    with canvas(LOW, NARROW) as (drawing, axes):
        axes.set(xlabel=symbols(xlabel), ylabel=symbols(ylabel))
        axes.set(**{f"{axis}scale": "log" for axis in logarithmic})
        for place, curve in enumerate(_drawable(thinned(one), logarithmic) for one in series):
            if not curve.x:
                continue
            look = _look(place, curve.label) | {"markevery": max(1, len(curve.x) // MOST_MARKERS), "markersize": 4}
            axes.plot(curve.x, _floats(curve.y), **look)
            if curve.lo is not None and curve.hi is not None:
                ends = (_floats(curve.lo), _floats(curve.hi))
                axes.fill_between(curve.x, *ends, color=look["color"], alpha=0.2, linewidth=0)
        axes.locator_params(axis="x", nbins=6)
        plain_log_ticks(axes)
        _legend(drawing, axes)
        return rendered(drawing, title, caption)


def thinned(curve: Series, most: int = MOST_POINTS) -> Series:
    """The curve, if it has more points than `most` by the least and the greatest of every few, and its last."""
    size = math.ceil(2 * len(curve.x) / most)
    if len(curve.x) <= most:
        return curve
    kept = {len(curve.x) - 1}
    for start in range(0, len(curve.x), size):
        among = range(start, min(start + size, len(curve.x)))
        found = [i for i in among if curve.y[i] is not None] or among
        kept |= {pick(found, key=lambda i: curve.y[i] or 0.0) for pick in (min, max)}

    def taken(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in sorted(kept)]

    lo, hi = (None if ends is None else taken(ends) for ends in (curve.lo, curve.hi))
    return replace(curve, x=taken(curve.x), y=taken(curve.y), lo=lo, hi=hi)


def surface(
    title: str,
    x: Sequence[float],
    y: Sequence[float],
    values: Sequence[float | None],
    xlabel: str,
    ylabel: str,
    caption: str = "",
    *,
    marks: Sequence[Series] = (),
    zlabel: str = "",
) -> Figure:
    """Labelled contour lines on a grid, the ink denser above each; `marks` are points. Both axes have one scale.

    Number j len(x) + i of the values is the one at x[i], y[j]; what is missing or not finite is left out. `zlabel` says
    above the drawing what they are.
    """
    import numpy as np
    from matplotlib.colors import to_rgba

    grid = np.ma.masked_invalid(np.array(_floats(values)).reshape(len(y), len(x)))
    with canvas(TALL) as (drawing, axes):
        axes.set(xlabel=symbols(xlabel), ylabel=symbols(ylabel), title=symbols(zlabel))
        if levels := contour_levels(grid.compressed().tolist()):
            shades = [to_rgba(INK, DENSEST * (k + 1) / len(levels)) for k in range(len(levels))]
            axes.contourf(x, y, grid, levels, colors=shades, extend="max")
            lines = axes.contour(x, y, grid, levels, colors=[INK], linewidths=0.8, linestyles="solid", alpha=0.6)
            axes.clabel(lines, fmt=dict(zip(levels, _told_apart(levels), strict=True)), fontsize=8, colors=[INK])
        for place, mark in enumerate(marks):
            axes.plot(mark.x, _floats(mark.y), **_look(place, mark.label) | {"linestyle": ""})
        axes.set_aspect("equal")
        axes.locator_params(nbins=6)
        _legend(drawing, axes)
        return rendered(drawing, title, caption)


def contour_levels(values: Sequence[float]) -> list[float]:
    """At most about ten round numbers between the least and the largest value: even, or over powers of ten."""
    from matplotlib.ticker import MaxNLocator

    low, high = min(values, default=0.0), max(values, default=0.0)
    if not low < high:
        return []
    if 0 < 10 * low < high:
        return _over_powers(low, high)
    even = MaxNLocator(MOST_LEVELS, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)
    return [float(level) for level in even if low < level < high]


def _over_powers(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    levels: list[float] = []
    for within in WITHIN_TEN:
        every = (factor * 10.0**power for power in powers for factor in within)
        levels = [level for level in every if low < level < high]
        if len(levels) <= MOST_LEVELS:
            return levels
    return levels[:: math.ceil(len(levels) / MOST_LEVELS)]


def _told_apart(levels: Sequence[float]) -> list[str]:
    """The levels as short as they are told apart."""
    digits = [[f"{level:.{count}g}" for level in levels] for count in range(6, 18)]
    texts = [[power_of_ten(level) for level in levels], *digits]
    shortest = next((text for text in texts if len(set(text)) == len(levels)), texts[-1])
    return [text.replace("-", "−") for text in shortest]


def _look(place: int, label: str) -> dict[str, Any]:
    """Of the curve at this place: where colours come round again, the lines are broken."""
    round_, colour = divmod(place, len(COLOURS))
    look: dict[str, Any] = {"color": COLOURS[colour], "marker": MARKERS[place % len(MARKERS)], "label": symbols(label)}
    return look | {"linestyle": ("-", "--", ":")[min(round_, 2)]}


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


def plain_log_ticks(axes: Axes) -> None:
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
