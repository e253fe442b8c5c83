"""Actors are killed at random steps of runs of all kinds, again and again: each run ends with the undisturbed bits.

DSGD_CHAOS says how many runs, DSGD_CHAOS_SEED the first one's seed, by which all is drawn; a line is printed for each.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from dsgd.backends.processes import ChildPlace
from dsgd.backends.ray_actors import Actors, Needs
from dsgd.backends.ray_cluster import ONE_NODE, SETTINGS, settings
from dsgd.backends.supervision import Place, Terms, supervise
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.optimizers import AdamW, Sgd
from dsgd.run import Run
from tests.backends.fleets import Keeping, Kept, Seen
from topologies import OnePeerExponential, RandomMatching, Topology

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("_ray")]

FIRST, TIMES = int(os.environ.get("DSGD_CHAOS_SEED", "0")), int(os.environ.get("DSGD_CHAOS", "5"))
STEPS, CORES = 400, 4

KINDS: dict[str, dict[str, Any]] = {
    "momentum": {"optimizer": Sgd(momentum=0.9)},
    "adamw": {"optimizer": AdamW(), "algorithm": "adapt_then_combine"},
    "twins": {"twins": (WeightDiversity(), Plain()), "gradient_noise": 0.1},
    "one_peer": {"topology": OnePeerExponential(6), "optimizer": Sgd(momentum=0.9)},
    "matching": {"topology": RandomMatching(Topology("ring", 6)), "local_steps": 2},
}


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    """One cluster, on this machine's loopback alone, for all runs."""
    with tempfile.TemporaryDirectory(prefix="dsgd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        own = {"RAY_AUTH_TOKEN": "chaos" * 8, "RAY_AUTH_MODE": "token"}
        with settings(SETTINGS | ONE_NODE | own):
            import ray

            sizes = {"num_cpus": CORES, "object_store_memory": 100 * 2**20}
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
            ray.init(address="local", _temp_dir=folder, **sizes, **quiet)
            yield
            ray.shutdown()


@pytest.fixture(scope="module")
def processes() -> Iterator[Kept]:
    """Where the undisturbed numbers come from."""
    kept = Kept([ChildPlace() for _ in range(4)])
    yield kept
    kept.end()


@dataclass
class Struck(Seen):
    """A fleet of actors and the observer of their run: at each step of `strikes` one of them, drawn, is killed."""

    strikes: list[int]
    random: random.Random
    killed: list[tuple[int, float]] = field(default_factory=list)
    noticed: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def places(self, count: int, least: int) -> list[Place]:
        made = Actors(Needs(cpus=1, gpus=0, placement="PACK", wait=30)).places(count, count)
        self.pids = [place.ask("hello")(60).pid for place in made]
        return made

    def stepped(self, step: int) -> None:
        super().stepped(step)
        if len(self.killed) == len(self.noticed) < len(self.strikes) and step >= self.strikes[len(self.killed)]:
            os.kill(self.random.choice(self.pids), signal.SIGKILL)
            self.killed.append((step, time.monotonic()))

    def event(self, event: str, **details: object) -> None:
        super().event(event, **details)
        self.noticed.append(time.monotonic() - self.killed[-1][1])


@pytest.mark.parametrize("seed", range(FIRST, FIRST + TIMES))
def test_killed_actors_leave_no_trace_in_the_numbers(
    small: Callable[..., Run], processes: Kept, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    drawn = random.Random(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    run = small(n=6, steps=STEPS, measure_every=50, snapshot_every=100, **KINDS[kind])
    count, every = drawn.randint(2, CORES), drawn.randint(20, 50)
    fleet = Struck(sorted(drawn.sample(range(1, STEPS - 50), drawn.choice([1, 1, 2]))), drawn)
    terms, began = Terms(count, device="cpu", timeout=10), time.monotonic()
    found = supervise(fleet, terms, run, (fleet,), keeper=Keeping(every))
    seconds = time.monotonic() - began
    expected = supervise(processes, terms, run)
    steps = ", ".join(f"{step}" for step, _ in fleet.killed)
    noticed = ", ".join(f"{notice:.2f}" for notice in fleet.noticed)
    with capsys.disabled():
        told = f"killed at {steps:>8} of {STEPS}, noticed in {noticed:>10} s, {seconds:5.1f} s in all"
        print(f"\nseed {seed:3d}  {kind:8} in {count} places, kept every {every}: {told}", end="  ")
    assert [event for event, _ in fleet.events] == ["place_lost"] * len(fleet.strikes)
    assert all(torch.equal(found.params[name], leaf) for name, leaf in expected.params.items())
    assert found.history == expected.history == fleet.rows
    assert [step for step, _ in fleet.snapshots] == list(range(0, STEPS + 1, 100))
