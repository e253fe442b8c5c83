"""Gradient smoothing: how much less Lipschitz the gradient becomes by averaging over the replicas' N(0, Xi)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.equivalence import EXAMPLES_AT_ONCE, NUMBERS_AT_ONCE
from dsgd.metrics.lipschitz import GROUPS, Instrument, measure, unavailable
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.objectives import Batch
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Smoothing:
    """Lipschitz constants of the gradient along lines through the mean model, in float64, without and with the noise.

    On the first `examples` training examples; `dsgd.metrics.lipschitz` says what is measured, and along which lines.
    Names start with `smoothing_`, with `isotropic` noise of the same trace with `isotropic_smoothing_`, and for a
    `scale` other than 1 on all deviations with `smoothing_xSCALE_`, so that a run can have several. `_span` is in the
    span of the replicas' deviations, `_off` orthogonal to it. All are None while all replicas are equal.
    The gradient of a network with kinks has no Lipschitz constant: what is found on `points` points grows with them.
    """

    examples: int = 512
    directions: int = 8
    pairs: int = 64
    points: int = 5
    reach: float = 1.0
    scale: float = 1.0
    isotropic: bool = False
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        for name, least in (("examples", 1), ("directions", 1), ("pairs", GROUPS), ("points", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("reach", "scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, and finite")

    def __call__(self, snapshot: Snapshot) -> Values:
        equal = equal_up_to_rounding(snapshot.params.matrix)
        found = unavailable() if equal else measure(self.instrument(snapshot))
        return {f"{self.prefix}_{name}": value for name, value in found.items()}

    @property
    def prefix(self) -> str:
        """What the names start with."""
        noise = "isotropic_smoothing" if self.isotropic else "smoothing"
        return noise if self.scale == 1 else f"{noise}_x{self.scale:g}"

    def instrument(self, snapshot: Snapshot) -> Instrument:
        """The measurement of the snapshot's ensemble."""
        rows, split = snapshot.params.matrix.double(), snapshot.train.head(self.examples)
        batch = Batch(snapshot.network, split.x.double(), split.y, shared=True)
        block = max(1, min(EXAMPLES_AT_ONCE // len(split.y), NUMBERS_AT_ONCE // rows.shape[1]))
        knobs = self.directions, self.pairs, self.points, self.reach, self.scale, self.isotropic
        return Instrument(rows, _gradients(batch, block), *knobs, block=block, seed=snapshot.seed)


def _gradients(batch: Batch, block: int) -> Callable[[Tensor], Tensor]:
    """The gradients (k, d) at any number of points (k, d), `block` of them at once."""

    def gradients(rows: Tensor) -> Tensor:
        import torch

        blocks = (Params(points, batch.network.layout) for points in rows.split(block))
        return torch.cat([batch.loss_and_grad(p)[1].matrix for p in blocks])

    return gradients
