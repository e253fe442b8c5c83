"""Unified SAM, between USAM and SAM: Oikonomou & Loizou 2025, arXiv 2503.02225."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dsgd import trees
from dsgd.gradients.gradient import Estimate
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import TINY, Params

Growing = Literal["1-1/t"]


@dataclass(frozen=True)
class UnifiedSam:
    """g = grad L_B(w + e), e = rho (1 - lam + lam / |h|) h, h = grad L_B(w): USAM at lam = 0, SAM at lam = 1.

    lam "1-1/t" goes from the one to the other, t the number of the step from 1.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.05
    lam: float | Growing = "1-1/t"

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if self.lam != "1-1/t" and not (isinstance(self.lam, int | float) and 0 <= self.lam <= 1):
            raise ValueError(f"lam is {self.lam}; it must be in [0, 1], or 1-1/t")

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        lam = 1 - 1 / (at.step + 1) if isinstance(self.lam, str) else self.lam
        loss, g = objective.loss_and_grad(p)
        point = trees.moved(p, g, self.rho * (1 - lam + lam / (trees.norm(g) + TINY)))
        return Estimate(loss, objective.loss_and_grad(point)[1], memory)
