"""Gradient smoothing: how much less Lipschitz the gradient becomes by averaging over the replicas' N(0, Xi)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dsgd.knobs import check_least, check_most
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.equivalence import gradients_on, points_at_once
from dsgd.metrics.lines import GROUPS, Lines
from dsgd.metrics.lipschitz import measure, unavailable
from dsgd.metrics.metric import Snapshot, Values, check_every

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

    apart: ClassVar[tuple[str, ...]] = ("isotropic", "scale")

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1, directions=1, pairs=GROUPS, points=2)
        check_most(self, directions=10_000, pairs=1_000_000, points=10_000)
        for name in ("reach", "scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0, and finite")

    def __call__(self, snapshot: Snapshot) -> Values:
        equal = equal_up_to_rounding(snapshot.params.matrix)
        found = unavailable() if equal else measure(self.lines(snapshot))
        return {f"{self.prefix}_{name}": value for name, value in found.items()}

    @property
    def prefix(self) -> str:
        """What the names start with."""
        noise = "isotropic_smoothing" if self.isotropic else "smoothing"
        return noise if self.scale == 1 else f"{noise}_x{self.scale:g}"

    def lines(self, snapshot: Snapshot) -> Lines:
        """Those of the snapshot's ensemble."""
        import torch

        rows, split = snapshot.params.matrix.double(), snapshot.train.head(self.examples)
        block, of_block = points_at_once(split, rows), gradients_on(snapshot.network, split)

        def gradients(points: Tensor) -> Tensor:
            return torch.cat([of_block(part) for part in points.split(block)])

        knobs = self.directions, self.pairs, self.points, self.reach, self.scale, self.isotropic
        return Lines(rows, gradients, *knobs, block=block, seed=snapshot.seed)
