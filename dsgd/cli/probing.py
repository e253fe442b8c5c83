"""The equivalence measured again on the ensemble that a run left in its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.cli.finished import finished_run
from dsgd.config import ConfigError
from dsgd.metrics import Equivalence

if TYPE_CHECKING:
    from pathlib import Path


def probe_folder(folder: Path, probe_size: int, step: int | None = None) -> dict[str, Any]:
    """What `dsgd.probe` returns for the run's last ensemble, or the one recorded after `step` steps.

    The loss is the mean over the first `probe_size` training examples, in float64 on the CPU; batch normalisation takes
    their statistics, for the gradients compared are those of training. ConfigError where the
    folder does not hold such an ensemble.
    """
    from dsgd.metrics.instrument import measure

    if probe_size < 1:
        raise ConfigError(f"--probe-size: {probe_size} given; allowed is a whole number, at least 1")
    run, snapshot = finished_run(folder, step)
    if run.n < 2:
        raise ConfigError(f"{folder}: a run of {run.n} replica; a probe compares replicas and needs at least 2")
    measured = measure(Equivalence(probe_size=probe_size).instrument(snapshot), run.smooth)
    used = min(probe_size, len(snapshot.train.y))
    found = {"run_dir": str(folder), "step": snapshot.step, "n": run.n, "probe_size": used}
    if snapshot.network.statistics_layout.d:
        found["batch_norm"] = f"statistics of the {used} examples of the probe, as in training"
    return found | measured
