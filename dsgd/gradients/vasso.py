"""Variance-suppressed SAM: Li & Giannakis 2023, arXiv 2309.15639."""

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
class Vasso:
    """g = grad L_B(w + e), e = rho v / |v|, v the moving average (1 - theta) v + theta grad L_B(w) from the first on.

    SAM at theta = 1.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05
    theta: float = 0.9

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if not 0 < self.theta <= 1:
            raise ValueError(f"theta is {self.theta}; it must be in (0, 1], the weight of the newest gradient")

    def init(self, p: Params) -> Memory:
        return {"average": p.matrix.new_zeros(p.matrix.shape)}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        average = g if at.step == 0 else g.like(memory["average"].lerp(g.matrix, self.theta))
        worst = ascended(p, average, self.rho)
        return Estimate(loss, objective.loss_and_grad(worst)[1], {"average": average.matrix})
