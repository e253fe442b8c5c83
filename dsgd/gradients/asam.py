"""Adaptive SAM: Kwon et al. 2021, arXiv 2102.11600, in the two ways in which it is used.

A radius of the one means nothing in the other: the authors' code took 0.5, the other convention needs about 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dsgd import trees
from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.gradients.moves import adaptively_moved
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    ...

Convention = Literal["weights", "all"]


@dataclass(frozen=True)
class Asam:
    """g = grad L_B(w + e), e = rho T^2 h / |T h|, h = grad L_B(w), T diagonal and of the size of the parameters.

    `convention` weights, of the authors' code: T = |w| + xi for leaves whose name has "weight" in it, 1 for others.
    all, of widely used copies: T = |w| for every leaf, without xi.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2"

    rho: float = 0.5
    convention: Convention = "weights"
    xi: float = 0.01

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        check_choice("convention", self.convention, Convention)
        check_least(self, xi=0)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        loss, g = objective.loss_and_grad(p)
        scaled = None if self.convention == "all" else trees.leaves_of(p, {name for name in p if "weight" in name})
        worst = adaptively_moved(p, g, self.rho, scaled, self.xi)
        return Estimate(loss, objective.loss_and_grad(worst)[1], memory)
