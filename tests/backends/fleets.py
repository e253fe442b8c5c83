"""Fleets for tests: one that stays, those that watch and keep what they are told, and runs to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from dsgd.backends.local import LocalBackend
from dsgd.backends.processes import ProcessesBackend
from dsgd.backends.supervision import Place, Terms, supervise
from dsgd.gradients import GRADIENTS
from dsgd.loop import Result
from dsgd.metrics import Consensus
from dsgd.optimizers import Sgd
from dsgd.run import Run
from dsgd.simulation import World
from tests.rows import near
from topologies import OnePeerExponential, Periodic, Permuted, RandomMatching, Schedule, Static, Topology

Make = Callable[..., Run]
CPU = LocalBackend("cpu")


class Kept:
    """A fleet whose places stay for the next run: starting one takes longer than training a small run."""

    def __init__(self, kept: Sequence[Place]) -> None:
        self.kept = kept

    def places(self, count: int, least: int) -> list[Place]:
        return [Lent(place) for place in self.kept[:count]]

    def end(self) -> None:
        for place in self.kept:
            place.end()


class Lent:
    """A place that goes on living when a run ends it."""

    def __init__(self, place: Place) -> None:
        self.host, self.ask = place.host, place.ask

    def end(self) -> None:
        """Nothing: the next run has it."""


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.steps, self.rows, self.snapshots, self.events = [0], list[Any](), list[Any](), list[Any]()

    def stepped(self, step: int) -> None:
        self.steps.append(step)

    def measured(self, row: Any) -> None:
        self.rows.append(row)

    def snapshotted(self, step: int, params: Mapping[str, torch.Tensor]) -> None:
        self.snapshots.append((step, {name: leaf.clone() for name, leaf in params.items()}))

    def event(self, event: str, **details: object) -> None:
        self.events.append((event, details))


class Keeping:
    """A keeper that holds the worlds, and wishes to stop once `until` is true."""

    def __init__(self, every: int, until: Callable[[], bool] = lambda: False) -> None:
        self.every, self.until = every, until
        self.worlds: list[World] = []

    def keep(self, world: World) -> None:
        self.worlds.append(world)

    def stopping(self) -> bool:
        return self.until()


def close(found: Result, expected: Result, tolerance: float = 1e-10) -> None:
    for name, leaf in expected.params.items():
        torch.testing.assert_close(found.params[name], leaf, rtol=tolerance, atol=tolerance * float(leaf.abs().max()))
    assert len(found.history) == len(expected.history)
    for row, expected_row in zip(found.history, expected.history, strict=True):
        assert row == near(expected_row, rel=100 * tolerance, abs=tolerance)


SCHEDULES: dict[str, Schedule] = {
    "ring": Static(Topology("ring", 7)),
    "complete": Static(Topology("complete", 7)),
    "exponential": Static(Topology("exponential", 7)),
    "one_peer": OnePeerExponential(7),
    "matching": RandomMatching(Topology("ring", 7)),
    "permuted": Permuted(Topology("star", 7)),
    "periodic": Periodic(Static(Topology("ring", 7)), 3),
}


def combined(small: Make, algorithm: str, schedule: str, gradient: str, **parts: Any) -> Run:
    return small(
        **{
            "topology": SCHEDULES[schedule],
            "algorithm": algorithm,
            "gradient": GRADIENTS[gradient](),
            "optimizer": Sgd(momentum=0.9),
            "metrics": (Consensus(),),
            "steps": 20,
            "measure_every": 10,
            **parts,
        }
    )


def in_processes(fleet: Kept, run: Run, count: int, *observers: Any, **how: Any) -> Result:
    return supervise(fleet, Terms(count, device="cpu", timeout=20), run, observers, **how)


def compared(fleet: Kept, run: Run, count: int, tolerance: float = 1e-10) -> None:
    close(in_processes(fleet, run, count), CPU.train(run), tolerance)


@cache
def undisturbed(run: Run, count: int) -> Result:
    return ProcessesBackend(count, "cpu").train(run)
