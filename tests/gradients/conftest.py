"""A mini-batch of real examples."""

from __future__ import annotations

import pytest

from dsgd.communicators import Local
from dsgd.models import Mlp
from dsgd.objectives import Objective
from dsgd.simulation import Simulation
from dsgd.trees import Params
from tests.gradients.estimates import CPU, Make


@pytest.fixture
def batch(small: Make) -> tuple[Objective, Params]:
    """A mini-batch of each of four replicas that have left their start."""
    simulation = Simulation(small(model=Mlp((8,)), batch_size=8), Local(4), CPU)
    world = simulation.start()
    for _ in range(5):
        world = simulation.advance(world)
    return simulation.objective(5), world.ensemble.params
