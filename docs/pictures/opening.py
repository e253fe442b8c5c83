"""Draws the picture at the head of the README: an ensemble on its graph, and what the instrument finds in it.

python docs/pictures/opening.py writes opening.svg beside itself, in five seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

import dsgd
from dsgd.figures import COLOURS, INK, canvas, rendered, standalone
from dsgd.graph_drawings import positions
from dsgd.learning_rates import Constant
from dsgd.metrics import Equivalence
from dsgd.plots import plain_log_ticks
from dsgd.typography import RAISED
from topologies import Static, Topology

N = 16
STEPS = 300
CURVES = (
    ("correction", "average-direction SAM − SGD", 2),
    ("residual", "D-SGD − average-direction SAM", 3),
)
TITLE = "D-SGD on a ring, and its distance from average-direction SAM"


def main() -> None:
    topology = Topology("ring", N)
    run = dsgd.Run(
        topology=Static(topology),
        learning_rate=Constant(0.3),
        batch_size=8,
        steps=STEPS,
        metrics=(Equivalence(),),
    )
    found = dsgd.train(run)
    params = found.params
    away = sum((leaf - leaf.mean(0)).flatten(1).square().sum(1) for leaf in params.values()).sqrt()
    with canvas(3.6, 8.6) as (drawing, first):
        first.remove()
        ring, orders = drawing.subplots(1, 2, width_ratios=(1, 1.25))
        draw_ring(drawing, ring, topology, away.tolist())
        draw_orders(orders, found.history[-1])
        figure = rendered(drawing, TITLE)
    (Path(__file__).parent / "opening.svg").write_text(standalone(figure), encoding="utf-8")


def draw_ring(drawing: Canvas, axes: Axes, topology: Topology, away: list[float]) -> None:
    graph = topology.graph_object()
    place = positions(graph, "ring")
    for u, v in graph.edges:
        axes.plot(*zip(place[u], place[v], strict=True), color=INK, linewidth=0.9, alpha=0.6, zorder=1)
    look: dict[str, Any] = {"cmap": "viridis", "edgecolors": INK, "linewidths": 0.8, "zorder": 2, "clip_on": False}
    dots = axes.scatter(*zip(*(place[i] for i in range(N)), strict=True), c=away, s=170, **look)
    axes.text(0, 0, f"{N} replicas\nof one model\nafter {STEPS} steps\nof D-SGD", ha="center", va="center")
    axes.set_aspect("equal")
    axes.set_axis_off()
    scale = drawing.colorbar(dots, ax=axes, location="bottom", shrink=0.8, aspect=30, label="distance to their mean")
    scale.outline.set_visible(False)


def draw_orders(axes: Axes, measured: dict[str, Any]) -> None:
    scales = measured["equivalence_scales"]
    for place, (name, label, order) in enumerate(CURVES):
        values = measured[f"equivalence_curve_{name}"]
        axes.loglog(scales, values, "os"[place] + "-", color=COLOURS[place], label=label)
        beside = [0.45 * values[-1] * (s / scales[-1]) ** order for s in scales]
        axes.loglog(scales, beside, ":", color=INK, linewidth=0.9)
        power, low = f"∼ s{str(order).translate(RAISED)}", (scales[-4], beside[-4])
        axes.annotate(power, low, (2, -14), textcoords="offset points")
    axes.set(xlabel="scale s of the replicas' deviations", ylabel="|difference of gradients|")
    axes.legend(loc="lower right", bbox_to_anchor=(1.04, 0))
    plain_log_ticks(axes)


if __name__ == "__main__":
    main()
