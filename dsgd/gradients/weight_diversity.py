"""The paper's average-direction SAM: Zhu et al. 2023, arXiv 2306.02913, theorem 1.

E grad L_B(w + e), e ~ N(0, Xi(t)), is the direction that D-SGD's mean model follows up to third-order terms, with Xi
the covariance of the replicas, which comes from one of `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from dsgd import trees
from dsgd.gradients.gradient import Estimate, expected
from dsgd.gradients.sources import Gaussian, Replicas, Source, Stationary
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Cloud, Noise, degree3
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeightDiversity:
    """g = E grad L_B(w + e), e ~ N(0, Xi(t)).

    `samples` antithetic pairs +-e; 0 takes the expectation by the degree-3 cubature on the axes of Xi, at twice as
    many points as Xi has rank, exact up to fourth-order terms (not for the source `stationary`).
    """

    row_wise: ClassVar[bool] = False  # it asks for the ensemble's covariance
    cost: ClassVar[str] = "2 samples, or 2 rank of Xi"

    source: Source = field(default_factory=Replicas)
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples:
            check_least(self, samples=1)
        elif isinstance(self.source, Stationary):
            raise ValueError("samples is 0, the cubature, which the source stationary does not offer; set at least 1")

    @property
    def least_batch_size(self) -> int:
        """Two where the noise of a gradient is estimated from the mini-batch itself."""
        return 2 if isinstance(self.source, Stationary) else 1

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        gaussian = self.source.gaussian(objective, p, noise, at)
        if gaussian is None:
            return Estimate(*objective.loss_and_grad(p), memory)
        if not self.samples and isinstance(gaussian, Cloud):
            offsets = list(cubature_offsets(gaussian)) or [p.matrix.new_zeros(1, p.layout.d)]
            points: Iterable[Params] = (p.like(p.matrix + offset) for offset in offsets)
            return Estimate(*expected(objective, p, points, 1 / len(offsets)), memory)
        return Estimate(*expected(objective, p, self._pairs(gaussian, p, noise), 1 / (2 * self.samples)), memory)

    def _pairs(self, gaussian: Gaussian, p: Params, noise: Noise) -> Iterator[Params]:
        """p + e and p - e for each draw of e."""
        import torch

        one = p.matrix.new_ones(p.rows)
        for k in range(self.samples):
            z = torch.from_numpy(noise.coefficients(gaussian.size, "diversity", k)).to(p.matrix)
            offset = p.like(gaussian.offsets(z))
            yield trees.moved(p, offset, one)
            yield trees.moved(p, offset, -one, out=offset.matrix)


def cubature_offsets(gaussian: Cloud) -> Iterator[Tensor]:
    """The points of the degree-3 rule on the axes of Xi, each of shape (1, d); none where Xi is zero."""
    axes = gaussian.axes
    if len(axes):
        yield from (degree3(len(axes), axes).points @ axes).split(1)
