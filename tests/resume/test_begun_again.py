"""Interrupted and resumed is uninterrupted, to the last byte, however the run was interrupted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.checkpoints import generations, latest, step_of
from dsgd.communicators import Local
from dsgd.fingerprint import origin
from dsgd.footprint import layout_of
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.keeping import FolderKeeper, Keeping
from dsgd.learning_rates import Cosine, Multistep
from dsgd.loop import Result, Stopped, simulate
from dsgd.metrics import Accuracy, Consensus, Gauges
from dsgd.models import Mlp
from dsgd.optimizers import AdamW, Lamb, Sgd
from dsgd.results import RunFolder, read_history
from dsgd.run import Run
from dsgd.simulation import Simulation
from tests.resume.interrupted import Make
from tests.test_gossip import EXAMPLES
from topologies import (
    SCHEDULES,
    OnePeerExponential,
    Periodic,
    Permuted,
    RandomMatching,
    Schedule,
    Static,
    Topology,
)

CPU = torch.device("cpu")
RING = Topology("ring", 4)
ALL_SCHEDULES: dict[str, Schedule] = {
    "static": Static(RING),
    "one_peer_exponential": OnePeerExponential(4),
    "random_matching": RandomMatching(RING),
    "permuted": Permuted(RING),
    "periodic": Periodic(Static(RING), 3),
}
OPTIMIZERS = (Sgd(), Sgd(momentum=0.9), AdamW(), Lamb())


class Reached:
    """An observer that says whether a step is done."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, False

    def stepped(self, step: int) -> None:
        self.done = step >= self.step

    def measured(self, row: Any) -> None: ...
    def snapshotted(self, step: int, params: Any) -> None: ...
    def event(self, event: str, **details: object) -> None: ...
    def __call__(self) -> bool:
        return self.done


def stopped_at(run: Run, folder: RunFolder, step: int) -> Result | None:
    """The run's result, begun from what lies in the folder; None where it was stopped at the step."""
    found, reached = latest(folder.path, origin(run), layout_of(run)), Reached(step)
    keeper = FolderKeeper(folder, Keeping(0), run.steps, origin(run), reached, print)
    try:
        world = found.world if found else None
        return simulate(Simulation(run, Local(run.n), CPU), (folder, reached), world, keeper)
    except Stopped:
        return None


def test_every_schedule_is_here() -> None:
    assert ALL_SCHEDULES.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("schedule", ALL_SCHEDULES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stopped_anywhere_and_begun_again_is_the_same_run(
    small: Make, tmp_path: Path, algorithm: str, schedule: str
) -> None:
    chance = random.Random(f"{algorithm} {schedule}")
    run = small(
        topology=ALL_SCHEDULES[schedule],
        algorithm=algorithm,
        local_steps=1 if algorithm == "centralized" else 3,
        optimizer=chance.choice(OPTIMIZERS),
        learning_rate=Multistep(lr=0.1, warmup=2, milestones=(0.5,)),
        twins=(WeightDiversity(), Plain()),
        gradient_noise=0.1,
        dtype="float32",
        metrics=(Consensus(), Accuracy()),
        measure_every=3,
        steps=12,
    )
    assert_goes_on(run, tmp_path / "run", sorted(chance.sample(range(1, run.steps), 2)))


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_method_begun_again_is_the_same_run(small: Make, tmp_path: Path, name: str) -> None:
    """With momentum, the method's memory and running statistics; stopped within LookSAM's period."""
    run = small(
        gradient=GRADIENTS[name](),
        model=Mlp((6,), norm="batch"),
        batch_size=8,
        optimizer=Sgd(momentum=0.9),
        metrics=(Accuracy(), Gauges()),
        measure_every=4,
        steps=16,
    )
    assert_goes_on(run, tmp_path / "run", [5, 13])


@pytest.mark.parametrize("name", GOSSIPS)
def test_every_gossip_begun_again_is_the_same_run(small: Make, tmp_path: Path, name: str) -> None:
    run = small(
        gossip=EXAMPLES[name],
        model=Mlp((6,), norm="batch"),
        batch_size=8,
        learning_rate=Cosine(0.2),
        metrics=(Consensus(), Accuracy()),
        measure_every=4,
        steps=16,
        dtype="float32",
    )
    assert_goes_on(run, tmp_path / "run", [3, 13])


def test_from_starts_of_their_own_begun_again_is_the_same_run(small: Make, tmp_path: Path) -> None:
    assert_goes_on(small(starts="own", twins=(Plain(),), steps=12), tmp_path / "run", [4, 7])


def assert_goes_on(run: Run, path: Path, steps: list[int]) -> None:
    """Stopped after these steps and begun again it is the uninterrupted run, to the bit."""
    folder = RunFolder.create(path, run.describe(), device="cpu")
    for step in steps:
        assert stopped_at(run, folder, step) is None
        assert step_of(generations(folder.path)[-1]) == step
    late = stopped_at(run, folder, 99)
    assert late is not None
    whole = simulate(Simulation(run, Local(run.n), CPU))
    assert read_history(folder.path) == json.loads(json.dumps(whole.history))
    for name, leaf in whole.params.items():
        assert torch.equal(leaf, late.params[name])
