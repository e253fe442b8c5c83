"""Surrogate gap guided SAM: Zhuang et al. 2022, arXiv 2203.08065, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.gradients.moves import ascended, without_across
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params


@dataclass(frozen=True)
class Gsam:
    """g = h' - alpha h_perp, h' = grad L_B(w + e) as in SAM, h_perp what of grad L_B(w) is orthogonal to h'.

    The radius follows the learning rate: `rho_max` at its greatest, `rho_min` at its last value, never below 0. The
    defaults are those of the paper's ResNet-50.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho_max: float = 0.04
    rho_min: float = 0.02
    alpha: float = 0.01

    def __post_init__(self) -> None:
        check_least(self, rho_max=0, rho_min=0, alpha=0)
        if self.rho_max < self.rho_min:
            raise ValueError(f"rho_max is {self.rho_max}, below rho_min of {self.rho_min}; give at least as much")

    @property
    def follows_lr(self) -> bool:
        return self.rho_max != self.rho_min

    def init(self, p: Params) -> Memory:
        return {}

    def radius(self, at: When) -> float:
        """rho_t."""
        if at.lr_max == at.lr_last:
            return self.rho_max
        share = (at.lr - at.lr_last) / (at.lr_max - at.lr_last)
        return max(0.0, self.rho_min + (self.rho_max - self.rho_min) * share)

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        worst = ascended(p, g, self.radius(at))
        perturbed = objective.loss_and_grad(worst)[1]
        return Estimate(loss, without_across(g, perturbed, self.alpha) if self.alpha else perturbed, memory)
