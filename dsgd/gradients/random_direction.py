"""SAM along a random direction of fixed length: Foret et al. 2021, arXiv 2010.01412, appendix C.5.

The isotropic average-direction sharpness of Wen, Ma & Li 2023 (arXiv 2211.05729), table 1, has this gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dsgd import trees
from dsgd.gradients.gradient import Estimate, sampled
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RandomDirection:
    """g = grad L_B(w + e), e = rho z / |z|, z ~ N(0, I): the mean over `samples` draws."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "samples"

    rho: float = 0.05
    samples: int = 1

    def __post_init__(self) -> None:
        check_least(self, rho=0, samples=1)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        def length(z: Params) -> Tensor:
            return self.rho / trees.norm(z)

        return Estimate(*sampled(objective, p, noise, self.samples, length), memory)
