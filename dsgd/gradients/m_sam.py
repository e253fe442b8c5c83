"""SAM on parts of the mini-batch: m-sharpness, Foret et al. 2021, arXiv 2010.01412, section 4.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.gradients.moves import ascended
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params


@dataclass(frozen=True)
class MSam:
    """g = mean over the parts s of `m` examples of grad L_s(w + e_s), e_s = rho grad L_s(w) / |grad L_s(w)|.

    The last part has what is left, and weighs as much less; with m = 1 every example has its own e.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05
    m: int = 16

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if self.m < 1:
            raise ValueError(f"m is {self.m}; it must be at least 1 example")

    def smallest_part(self, batch_size: int) -> int:
        """Examples in the smallest part of a mini-batch."""
        return min(batch_size, batch_size % self.m or self.m)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, total = p.matrix.new_zeros(p.rows), p.matrix.new_zeros(p.matrix.shape)
        examples = objective.y.shape[-1]
        for start in range(0, examples, self.m):
            part = objective.part(start, min(start + self.m, examples))
            share = part.y.shape[-1] / examples
            clean, g = part.loss_and_grad(p)
            worst = ascended(p, g, self.rho)
            loss.add_(clean, alpha=share)
            total.add_(part.loss_and_grad(worst)[1].matrix, alpha=share)
        return Estimate(loss, p.like(total), memory)
