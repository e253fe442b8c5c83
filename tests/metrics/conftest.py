"""Snapshots of real ensembles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dsgd.communicators import Local
from dsgd.metrics import Snapshot
from dsgd.run import Run
from dsgd.simulation import Simulation


@pytest.fixture
def snapshot_of() -> Callable[[Run], Snapshot]:
    """What metrics see at the end of a run."""

    def at_the_end(run: Run) -> Snapshot:
        simulation = Simulation(run, Local(run.n), torch.device("cpu"))
        world = simulation.start()
        while world.step < run.steps:
            world = simulation.advance(world)
        snapshot = simulation.snapshot(world)
        assert snapshot is not None
        return snapshot

    return at_the_end
