"""Fisher SAM: Kim et al. 2022, arXiv 2206.04920, with the diagonal of squared mini-batch gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.gradients.moves import fisher_moved
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    ...


@dataclass(frozen=True)
class FisherSam:
    """g = grad L_B(w + e), e = gamma F h / sqrt(h^T F h), h = grad L_B(w), F = 1 / (1 + eta h^2) for each parameter."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    gamma: float = 0.1
    eta: float = 0.1

    def __post_init__(self) -> None:
        check_least(self, gamma=0, eta=0)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        worst = fisher_moved(p, g, g, self.gamma, self.eta)
        return Estimate(loss, objective.loss_and_grad(worst)[1], memory)
