"""Calibrated SAM: Tan et al. 2025, arXiv 2505.23866: the outer loss of sure examples weighs less.

Source: summaries of the ICLR 2026 version, which leave open whether the weight is differentiated; hence the knob.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.gradients.moves import ascended
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Csam:
    """g = grad L'_B(w + e), e SAM's; L' weighs -log p by (1 + p)^-gamma where p, of the true label, is above 1/2.

    The weight is part of the loss and differentiated, unless `detach_weight`. SAM at gamma = 0.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"
    classifies: ClassVar[bool] = True

    rho: float = 0.05
    gamma: float = 1.0
    detach_weight: bool = False

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if not 0 <= self.gamma <= 2:
            raise ValueError(f"gamma is {self.gamma}; it must be in [0, 2]")

    def init(self, p: Params) -> Memory:
        return {}

    @cached_property
    def outer(self) -> Calibrated:
        return Calibrated(self.gamma, self.detach_weight)

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        worst = ascended(p, g, self.rho)
        outer = objective.under(self.outer) if self.gamma else objective
        return Estimate(loss, outer.loss_and_grad(worst)[1], memory)


@dataclass(frozen=True)
class Calibrated:
    """The weighed loss (..., B) of outputs (..., B, classes)."""

    gamma: float
    detach_weight: bool

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        log_p = outputs.log_softmax(dim=-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
        p = log_p.detach().exp() if self.detach_weight else log_p.exp()
        return -log_p * (1 + p).pow(-self.gamma).where(p > 0.5, 1.0)
