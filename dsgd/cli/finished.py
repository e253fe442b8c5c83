"""The run and the ensemble in a finished run's folder, as metrics see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgd.config import ConfigError, content_of, read
from dsgd.metrics import Snapshot, Split
from dsgd.results import ENSEMBLE
from dsgd.simulation import start_network
from dsgd.snapshots import read_snapshot, snapshot_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dsgd.data import Examples
    from dsgd.run import Run


def finished_run(folder: Path, step: int | None = None) -> tuple[Run, Snapshot]:
    """The folder's run and its last ensemble, or the one recorded after `step` steps, on the CPU.

    ConfigError where the folder does not hold such an ensemble, or its data are not there.
    """
    _check_finished(folder, ["config.yaml", *([ENSEMBLE] if step is None else [])])
    try:
        run = read(content_of(folder / "config.yaml")).run
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


def _snapshot(run: Run, folder: Path, step: int | None) -> Snapshot:
    import torch

    data = run.task.data.load()
    network = start_network(run, data, torch.float64, torch.device("cpu"))
    path = folder / ENSEMBLE if step is None else snapshot_path(folder, step)
    params = read_snapshot(path, network.layout)
    at = run.steps if step is None else step
    return Snapshot(at, params, network, _split(data.train), _split(data.test), run.model.smooth)


def _split(examples: Examples) -> Split:
    import torch

    return Split(torch.from_numpy(examples.x), torch.from_numpy(examples.y))
