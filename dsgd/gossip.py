"""How often and how far a step mixes: once, part of the way, several times, or until the replicas are near enough."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from dsgd.knobs import check_least
from dsgd.state import When
from dsgd.trees import Params, Scaled

if TYPE_CHECKING:
    from torch import Tensor


class Mix(Protocol):
    """`mix(p)` is W_t p over the replicas, p itself only where W_t is the identity; `mix(p, u)` is W_t p + u."""

    def __call__(self, p: Params, plus: Scaled | None = None) -> Params: ...


@dataclass(frozen=True)
class Plan:
    """What a step's gossip makes of the replicas p: (1 - share) p + share W_t^k p, k the rounds made.

    These are `rounds`; with `trace_xi` at most so many, and the last is the first after which Tr Xi <= trace_xi, or
    the first that does not lower it from the round before.
    """

    rounds: int = 1
    share: float = 1.0
    trace_xi: float | None = None

    def __post_init__(self) -> None:
        check_least(self, rounds=1)
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be in [0, 1]")
        if self.trace_xi is not None and not 0 < self.trace_xi < float("inf"):
            raise ValueError(f"trace_xi is {self.trace_xi}; it must be greater than 0 and finite, or None")


class Gossip(Protocol):
    def plan(self, at: When) -> Plan: ...


@dataclass(frozen=True)
class Once:
    """w_i <- sum_j W_ij w_j."""

    def plan(self, at: When) -> Plan:
        return ONCE


@dataclass(frozen=True)
class Adaptive:
    """w_i <- (1 - gamma) w_i + gamma sum_j W_ij w_j, gamma = (1 - least) (lr / lr_max)^power + least.

    DSGD-AC: Wang & Johansson 2026, arXiv 2602.02899. As the learning rate falls replicas keep their distance longer;
    before step `start` gamma is 1, there the end of the warm-up. A round is made, and counted, however small gamma is.
    """

    power: float = 3.0
    start: int = 0
    least: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.power < float("inf"):
            raise ValueError(f"power is {self.power}; it must be at least 0 and finite")
        if self.start < 0:
            raise ValueError(f"start is {self.start}; it must be at least 0 steps")
        if not 0 <= self.least <= 1:
            raise ValueError(f"least is {self.least}; it must be in [0, 1], a share")

    def plan(self, at: When) -> Plan:
        if at.step < self.start:
            return ONCE
        return Plan(share=1 - (1 - self.least) * (1 - (at.lr / at.lr_max) ** self.power))


@dataclass(frozen=True)
class Partial:
    """w_i <- (1 - share) w_i + share sum_j W_ij w_j.

    The consensus step size of Koloskova et al. 2019, arXiv 1902.00340.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be in (0, 1]")

    def plan(self, at: When) -> Plan:
        return Plan(share=self.share)


@dataclass(frozen=True)
class Repeated:
    """W_t applied `times` times: the multiple gossip of DFedSAM-MGS, Shi et al. 2023, arXiv 2302.04083.

    All rounds are made and counted, also of a matching, whose second round changes nothing.
    """

    times: int

    def __post_init__(self) -> None:
        check_least(self, times=1)

    def plan(self, at: When) -> Plan:
        return Plan(self.times)


@dataclass(frozen=True)
class Until:
    """W_t applied once, and again until Tr Xi <= `trace_xi`, at most `most` times: Kong et al. 2021, arXiv 2102.04828.

    Tr Xi is that of the mixed replicas: in the order `consensus` before the update is added, in `adapt_then_combine`,
    which is Kong's, at the end of the step. The rounds end too where one did not lower Tr Xi, as the second of a
    matching: where W_t commutes with its transpose, further ones would not either. Where W_t is the identity nothing is
    asked. `bytes_sent` counts the rounds made, not the average by which a real network would have to find Tr Xi.
    """

    trace_xi: float
    most: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.trace_xi < float("inf"):
            raise ValueError(f"trace_xi is {self.trace_xi}; it must be greater than 0 and finite")
        check_least(self, most=1)

    def plan(self, at: When) -> Plan:
        return Plan(self.most, trace_xi=self.trace_xi)


@dataclass(frozen=True)
class Phases:
    """One gossip after another: the first until step `starts[0]`, the second until `starts[1]`, and so on."""

    gossips: tuple[Gossip, ...]
    starts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.starts) != len(self.gossips) - 1:
            raise ValueError(
                f"starts holds {len(self.starts)} steps for {len(self.gossips)} gossips; give one for each but the "
                "first, which starts at 0"
            )
        if any(later <= earlier for earlier, later in pairwise((0, *self.starts))):
            raise ValueError(f"starts are {list(self.starts)}; each must be greater than 0 and than the one before")

    def plan(self, at: When) -> Plan:
        return self.gossips[bisect_right(self.starts, at.step)].plan(at)


ONCE = Plan()
LEAST_GAIN = 1e-6  # by which share of itself a round must lower Tr Xi for another to be made

GOSSIPS: dict[str, type[Gossip]] = {
    "once": Once,
    "adaptive": Adaptive,
    "partial": Partial,
    "repeated": Repeated,
    "until": Until,
    "phases": Phases,
}


def gossiped(
    p: Params, plan: Plan, mix: Mix, trace_xi: Callable[[Params], Tensor], plus: Scaled | None = None
) -> tuple[Params, list[int]]:
    """What the plan makes of p, plus `plus`, and the rounds made for each row; the first round mixes `p` itself.

    `trace_xi(p)` is Tr Xi of each row's ensemble (rows,): several ensembles may lie one below the other, and each has
    the rounds that it needs.
    """
    if plan.trace_xi is None and plan.share == 1:
        mixed = p
        for _ in range(plan.rounds - 1):
            mixed = mix(mixed)
        return mix(mixed, plus), [plan.rounds] * p.rows  # in one pass over memory
    mixed, rounds = _rounds(p, plan, mix, trace_xi)
    if mixed is not p and plan.share != 1:
        mixed = _between(p, mixed, plan.share)
    return mixed if plus is None else mixed + plus, rounds


def _rounds(p: Params, plan: Plan, mix: Mix, trace_xi: Callable[[Params], Tensor]) -> tuple[Params, list[int]]:
    """W_t^k p, and k for each row: as many as its ensemble needs."""
    mixed, rounds = mix(p), p.matrix.new_ones(p.rows)
    far, before = rounds.bool(), rounds * float("inf")
    for _ in range(plan.rounds - 1 if mixed is not p else 0):
        if plan.trace_xi is not None:
            now = trace_xi(mixed)
            far &= (now > plan.trace_xi) & (now < (1 - LEAST_GAIN) * before)
            before = now
        if not far.any():
            break
        again = mix(mixed)
        mixed = again if far.all() else p.like(again.matrix.where(far[:, None], mixed.matrix))
        rounds += far
    return mixed, [int(k) for k in rounds.tolist()]


def _between(p: Params, mixed: Params, share: float) -> Params:
    """(1 - share) p + share mixed, written where `mixed` lay."""
    import torch

    return p.like(torch.lerp(p.matrix, mixed.matrix, share, out=mixed.matrix))
