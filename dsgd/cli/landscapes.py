"""The landscape around the mean of the ensemble that a run left in its folder, drawn into a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.cli.finished import finished_run
from dsgd.config import ConfigError
from dsgd.config.problems import refuse
from dsgd.metrics import Landscape

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.figures import Figure

AXES = {
    "random": ("filter norms along a random direction", "along another"),
    "eigenvectors": ("distance along the first Hessian eigenvector", "along the second"),
    "replicas": ("distance along the replicas' widest axis", "along their second"),
}


def landscape_metric(kind: str, points: int, reach: float | None, examples: int) -> Landscape:
    """The metric of these options; ConfigError naming the one that cannot be."""
    try:
        return Landscape(kind, points=points, reach=reach, examples=examples)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None


def draw_landscape(folder: Path, metric: Landscape, step: int | None, out: Path) -> dict[str, Any]:
    """Draws the plane into `out`, an SVG file, and returns its numbers: coordinates `at`, `loss`, the replicas' own.

    The ensemble is the run's last, or the one recorded after `step` steps. ConfigError where the folder does not hold
    it, where it has no such plane, or where the file cannot be written.
    """
    from dsgd.atomic import write_atomically
    from dsgd.figures import standalone

    if out.suffix != ".svg":
        refuse("--out", f"{out} does not end in .svg; give a name that does")
    if not out.parent.is_dir():
        refuse("--out", f"{out.parent} is not a folder; make it first")
    run, snapshot = finished_run(folder, step)
    prefix = f"landscape_{metric.kind}_"
    values: dict[str, Any] = {name.removeprefix(prefix): value for name, value in metric(snapshot).items()}
    if not values:
        refuse("--kind", f"no plane of {metric.kind} for the {run.n} replicas in {folder}; take --kind random")
    found = {"run_dir": str(folder), "step": snapshot.step, "n": run.n, "kind": metric.kind}
    found |= {"examples": min(metric.examples, len(snapshot.train.y)), "reach": values["at"][-1]}
    found |= dict(zip(("loss_least", "loss_greatest"), _ends(values["loss"]), strict=True))
    try:
        write_atomically(out, standalone(_figure(folder, metric.kind, snapshot.step, values)))
    except OSError as error:
        refuse("--out", f"{out} cannot be written: {error.strerror}")
    return found | values


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
    x, y = AXES[kind]
    return surface(
        title, values["at"], values["at"], values["loss"], x, y, caption, marks=marks, zlabel="training loss"
    )
