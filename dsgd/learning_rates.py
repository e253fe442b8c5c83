"""The learning rate as a function of the step, in plain Python numbers.

A learning rate that does not suit every number of steps has a method `check(steps)`, which a `Run` calls. One that
knows a step at which it is greatest has `peak(steps)`; of another all steps are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from topologies import KnobError


class LearningRate(Protocol):
    """The learning rate at `step` of a run of `steps` steps."""

    def at(self, step: int, steps: int) -> float: ...


def _positive(lr: float) -> None:
    if not lr > 0:
        raise ValueError(f"lr is {lr}; it must be greater than 0")


def _warm_up(step: int, warmup: int, floor: float) -> float:
    """Linear from `floor` to 1 over `warmup` steps."""
    return 1.0 if step >= warmup else floor + (1 - floor) * step / warmup


def _check_warm_up(warmup: int, floor: float) -> None:
    if warmup < 0:
        raise ValueError(f"warmup is {warmup}; it must be at least 0 steps")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}; it must be in [0, 1], a share of lr")


def _check_room(warmup: int, steps: int) -> None:
    if warmup >= steps:
        raise KnobError("warmup", f"warmup is {warmup}; it must be below the run's {steps} steps")


@dataclass(frozen=True)
class Constant:
    """The same learning rate at every step."""

    lr: float = 0.1

    def __post_init__(self) -> None:
        _positive(self.lr)

    def at(self, step: int, steps: int) -> float:
        return self.lr

    def peak(self, steps: int) -> int:
        return 0


@dataclass(frozen=True)
class Multistep:
    """Linear warm-up from floor * lr over `warmup` steps, then a factor `decay` at each milestone.

    `milestones` are fractions of the run; the defaults are those of Zhu et al. 2023: a tenth at 2/5 and at 4/5.
    """

    lr: float = 0.1
    warmup: int = 0
    floor: float = 0.1
    milestones: tuple[float, ...] = (0.4, 0.8)
    decay: float = 0.1

    def __post_init__(self) -> None:
        _positive(self.lr)
        _check_warm_up(self.warmup, self.floor)
        if not all(0 < m < 1 for m in self.milestones):
            raise ValueError(f"milestones are {list(self.milestones)}; each must be a fraction of the run, in (0, 1)")
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones are {list(self.milestones)}; each must be greater than the one before")
        if not self.decay > 0:
            raise ValueError(f"decay is {self.decay}; it must be greater than 0")

    def check(self, steps: int) -> None:
        """KnobError unless the warm-up ends before the run."""
        _check_room(self.warmup, steps)

    def at(self, step: int, steps: int) -> float:
        passed = sum(step >= round(m * steps) for m in self.milestones)
        return self.lr * _warm_up(step, self.warmup, self.floor) * self.decay**passed

    def peak(self, steps: int) -> int:
        """Where the warm-up ends, at a milestone, or before one."""
        turns = [self.warmup, *(round(m * steps) - before for m in self.milestones for before in (0, 1)), steps - 1]
        return max((step for step in turns if 0 <= step < steps), key=lambda step: self.at(step, steps))


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine from lr down to `final` * lr at the end of the run."""

    lr: float = 0.1
    warmup: int = 0
    floor: float = 0.1
    final: float = 0.0

    def __post_init__(self) -> None:
        _positive(self.lr)
        _check_warm_up(self.warmup, self.floor)
        if not 0 <= self.final <= 1:
            raise ValueError(f"final is {self.final}; it must be in [0, 1], a share of lr")

    def check(self, steps: int) -> None:
        """KnobError unless the warm-up ends before the run."""
        _check_room(self.warmup, steps)

    def at(self, step: int, steps: int) -> float:
        if step < self.warmup:
            return self.lr * _warm_up(step, self.warmup, self.floor)
        progress = (step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * (self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2)

    def peak(self, steps: int) -> int:
        return self.warmup


LEARNING_RATES: dict[str, type[LearningRate]] = {"constant": Constant, "multistep": Multistep, "cosine": Cosine}
