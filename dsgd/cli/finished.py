"""The run and the ensemble in a finished run's folder, as metrics see them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dsgd.cli.own_parts import warn_of_changes
from dsgd.config import ConfigError, content_of, read
from dsgd.metrics import Snapshot, Split
from dsgd.metrics.metric import RECALIBRATION
from dsgd.results import ENSEMBLE
from dsgd.snapshots import read_snapshot, snapshot_path, snapshot_steps
from dsgd.starts import start_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from dsgd.data import Examples
    from dsgd.run import Run


def finished_run(folder: Path, step: int | None = None) -> tuple[Run, Snapshot]:
    """The folder's run and its last ensemble, or the one recorded after `step` steps, on the CPU.

    The folder keeps no running statistics of batch normalisation: `recalibrated` gives them. ConfigError
    where the folder does not hold such an ensemble, or its data are not there.
    """
    _check_finished(folder, ["config.yaml", *([ENSEMBLE] if step is None else [])])
    if step is not None:
        _check_recorded(folder, step)
    try:
        run = read(content_of(folder / "config.yaml")).run
        warn_of_changes(folder / "config.yaml")
        return run, _snapshot(run, folder, step)
    except ConfigError:
        raise
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(str(error)) from None


def _check_finished(folder: Path, needed: Sequence[str]) -> None:
    """ConfigError naming what the folder of a finished run holds and this one does not."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the folder of a finished run")
    if lacking := [name for name in needed if not (folder / name).is_file()]:
        raise ConfigError(f"{folder} is not the folder of a finished run: it lacks {' and '.join(lacking)}")


def _check_recorded(folder: Path, step: int) -> None:
    """ConfigError that names the steps whose ensembles the folder has, where this one's is not among them."""
    if step not in (steps := snapshot_steps(folder)):
        there = f"it has those of the steps {', '.join(map(str, steps))}" if steps else "train it with snapshot_every"
        raise ConfigError(f"{folder} holds no ensemble of step {step}; {there}, or leave --step out for the last one")


def _snapshot(run: Run, folder: Path, step: int | None) -> Snapshot:
    import torch

    data = run.task.data.load()
    network = start_network(run, data, torch.float64, torch.device("cpu"))
    path = folder / ENSEMBLE if step is None else snapshot_path(folder, step)
    params = read_snapshot(path, network.layout)
    dtype = params.matrix.dtype
    train, test = _split(data.train, dtype), _split(data.test, dtype)
    at = run.steps if step is None else step
    return Snapshot(at, params, network, train, test, run.smooth, run.seed)


def _split(examples: Examples, dtype: torch.dtype) -> Split:
    import torch

    return Split(torch.from_numpy(examples.x).to(dtype), torch.from_numpy(examples.y))


def recalibrated(snapshot: Snapshot) -> tuple[Snapshot, dict[str, str]]:
    """The snapshot with running statistics where its network has batch normalisation, and a word on them to print.

    Each replica's, and in `judged` the mean model's, are taken on the first training examples, as those of the mean
    model are in a run with `running_statistics=recalibrate`.
    """
    if not snapshot.network.statistics_layout.d:
        return snapshot, {}
    head = snapshot.train.head(RECALIBRATION)
    statistics = snapshot.network.statistics(snapshot.params, head.x, shared=True)
    said = {"batch_norm": f"statistics recalibrated on {len(head.y)} training examples"}
    return replace(snapshot, statistics=statistics, recalibrate=True), said
