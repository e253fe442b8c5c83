"""Sharpness-aware minimization: Foret et al. 2021, arXiv 2010.01412, equations 2 and 3 with p = 2."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.gradients.moves import ascended
from dsgd.knobs import check_least
from dsgd.objectives import Objective, at_worst
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params


@dataclass(frozen=True)
class Sam:
    """g = grad L_B(w + e), e = rho grad L_B(w) / |grad L_B(w)|: the gradient where the loss is worst within rho.

    From step milestones[k] on rho is rhos[k].
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05
    milestones: tuple[int, ...] = ()
    rhos: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if not all(rho >= 0 for rho in self.rhos):
            raise ValueError(f"rhos are {list(self.rhos)}; each must be at least 0")
        if len(self.milestones) != len(self.rhos):
            raise ValueError(
                f"milestones has {len(self.milestones)} steps and rhos {len(self.rhos)} radii; give as many of each"
            )
        if any(later <= earlier for earlier, later in pairwise((0, *self.milestones))):
            raise ValueError(f"milestones are {list(self.milestones)}; each must be a step after the one before")

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        rho = self.rho_at(at.step)
        if quicker := at_worst(objective, p, rho):
            return Estimate(*quicker, memory)
        loss, g = objective.loss_and_grad(p)
        return Estimate(loss, objective.loss_and_grad(ascended(p, g, rho))[1], memory)

    def rho_at(self, step: int) -> float:
        """The radius at a step."""
        return (self.rho, *self.rhos)[bisect_right(self.milestones, step)]
