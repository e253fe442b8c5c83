"""SAM without normalisation: Andriushchenko & Flammarion 2022, arXiv 2206.06232."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params, Scaled


@dataclass(frozen=True)
class Usam:
    """g = grad L_B(w + e), e = rho grad L_B(w): rho is in the unit of a learning rate, e vanishes with the gradient."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05

    def __post_init__(self) -> None:
        check_least(self, rho=0)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        return Estimate(loss, objective.loss_and_grad(p + Scaled(g, self.rho))[1], memory)
