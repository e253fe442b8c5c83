"""Sharpness-aware minimization: Foret et al. 2021, arXiv 2010.01412, equations 2 and 3 with p = 2."""

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
class Sam:
    """g = grad L_B(w + e), e = rho grad L_B(w) / |grad L_B(w)|: the gradient where the loss is worst within rho."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05

    def __post_init__(self) -> None:
        check_least(self, rho=0)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        worst = ascended(p, g, self.rho)
        return Estimate(loss, objective.loss_and_grad(worst)[1], memory)
