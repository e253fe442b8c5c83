"""Average-direction SAM with isotropic Gaussian perturbations.

Source: Zhu et al. 2023, arXiv 2306.02913, with Xi a multiple of the identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.gradients.gradient import Estimate, sampled
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params


@dataclass(frozen=True)
class AverageDirection:
    """g = mean over `samples` draws of grad L_B(w + e), e ~ N(0, (rho^2 / d) I): rho is the root mean square of |e|."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "samples"

    rho: float = 0.05
    samples: int = 1

    def __post_init__(self) -> None:
        check_least(self, rho=0, samples=1)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        scale = p.matrix.new_full((p.rows,), self.rho / p.layout.d**0.5)
        return Estimate(*sampled(objective, p, noise, self.samples, lambda z: scale), memory)
