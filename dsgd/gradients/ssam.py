"""Stable SAM: Tan et al. 2025, JMLR 26 24-0065, arXiv 2401.07250: SAM's direction at the plain gradient's length.

The formulas are those of the authors' code, on both ascents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dsgd import trees
from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import TINY, Params

Ascent = Literal["usam", "sam"]


@dataclass(frozen=True)
class Ssam:
    """g = h' |h| / |h'|, h = grad L_B(w), h' = grad L_B(w + e); e = rho h (usam, the paper's) or rho h / |h| (sam)."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05
    ascent: Ascent = "usam"

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        check_choice("ascent", self.ascent, Ascent)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        length = trees.norm(g)
        scale = self.rho / (length + TINY) if self.ascent == "sam" else self.rho + 0 * length
        perturbed = objective.loss_and_grad(trees.moved(p, g, scale))[1]
        factor = length / (trees.norm(perturbed) + TINY)
        return Estimate(loss, perturbed.like(perturbed.matrix.mul_(factor.unsqueeze(1))), memory)
