"""The landscape around the mean of the ensemble that a run left in its folder, drawn into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.cli.drawing import check_drawing, write_drawing
from dsgd.cli.finished import finished_run, recalibrated
from dsgd.config import ConfigError
from dsgd.config.problems import refuse, refused
from dsgd.metrics import Landscape
from dsgd.metrics.landscape import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.figures import Figure


def landscape_metric(kind: str, points: int, reach: float | None, examples: int) -> Landscape:
    """The metric of these options; ConfigError naming the one that cannot be."""
    knobs: dict[str, Any] = {"kind": kind, "points": points, "reach": reach, "examples": examples}
    try:
        return Landscape(**knobs)
    except ValueError as error:
        raise ConfigError(f"--{refused(error, '', knobs)}") from None


def draw_landscape(folder: Path, metric: Landscape, step: int | None, out: Path) -> dict[str, Any]:
    """Draws the plane into `out`, an SVG file, and returns its numbers: coordinates `at`, `loss`, the replicas' own.

    The ensemble is the run's last, or the one recorded after `step` steps. ConfigError where the folder does not hold
    it, where it has no such plane, or where the file cannot be written.
    """
    check_drawing(out, "--out")
    run, snapshot = finished_run(folder, step)
    snapshot, judged_by = recalibrated(snapshot)
    prefix = f"landscape_{metric.kind}_"
    values: dict[str, Any] = {name.removeprefix(prefix): value for name, value in metric(snapshot).items()}
    if not values:
        refuse("--kind", f"no plane of {metric.kind} for the {run.n} replicas in {folder}; take --kind random")
    found = {"run_dir": str(folder), "step": snapshot.step, "n": run.n, "kind": metric.kind}
    found |= {"examples": min(metric.examples, len(snapshot.train.y)), "reach": values["at"][-1]}
    found |= dict(zip(("loss_least", "loss_greatest"), _ends(values["loss"]), strict=True))
    write_drawing(_figure(folder, metric.kind, snapshot.step, values), out, "--out")
    return found | judged_by | values


def _ends(losses: list[float | None]) -> tuple[float | None, float | None]:
    finite = [loss for loss in losses if loss is not None]
    return (min(finite), max(finite)) if finite else (None, None)


def _figure(folder: Path, kind: str, step: int, values: dict[str, Any]) -> Figure:
    from dsgd.plots import Series, surface

    marks = [Series("mean model", [0.0], [0.0])]
    caption = "Contours of the training loss around the mean model."
    if "replicas_share" in values:
        marks = [Series("replicas", values["replicas_x"], values["replicas_y"]), *marks]
        if values["replicas_share"] is not None:
            caption += f" The plane shows {values['replicas_share']:.0%} of the replicas' squared distances from it."
    title = f"Landscape of {folder.resolve().name}, step {step}"
    at, labels = values["at"], (KINDS[kind].x_label, KINDS[kind].y_label)
    return surface(title, at, at, values["loss"], *labels, caption, marks=marks, zlabel="training loss")
