"""How much the training loss rises around the mean model: three notions of sharpness that must not be confused.

Wen, Ma & Li 2023, arXiv 2211.05729, table 1, keeps ascent-direction and average-direction sharpness apart; the
average over the replicas' own N(0, Xi) is that of Zhu et al. 2023, arXiv 2306.02913.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.knobs import check_least, check_most
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import ProbeLoss, named, probe_losses
from dsgd.perturbations import Cloud, antithetic, cloud
from dsgd.randomness import normal
from dsgd.statistics import t_interval
from dsgd.trees import TINY

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sharpness:
    """How much the loss rises from the mean model: along N(0, Xi), in all directions alike, and along its gradient.

    Of the loss L on the first `examples` training examples, in float64:

    - `sharpness_xi` = E L(mean + e) - L(mean), e ~ N(0, Xi), and `sharpness_isotropic` the same for the isotropic
      Gaussian of Xi's trace; each with its 95 % interval `_lo`, `_hi` over `samples` antithetic pairs of draws
    - `sharpness_ascent` = L(mean + rho g / |g|) - L(mean), g the gradient, and `sharpness_average` =
      E L(mean + rho u) - L(mean) over unit vectors u; a twin's carry its name before them
    """

    examples: int = 1000
    samples: int = 32
    rho: float = 0.05
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1, samples=2)
        check_most(self, samples=10_000)
        if not 0 < self.rho < math.inf:
            raise ValueError(f"rho is {self.rho}; it must be greater than 0 and finite")

    def __call__(self, snapshot: Snapshot) -> Values:
        values: Values = {}
        for name, loss in probe_losses(snapshot, self.examples).items():
            ascent = loss.losses(_ascended(loss, self.rho)) - loss.losses(loss.point[None])
            values[named(name, "sharpness_ascent")] = float(ascent)
            values |= self._rise(named(name, "sharpness_average"), loss, self._on_sphere(loss.point, snapshot.seed))
            if not name:
                spread = cloud(snapshot.params.matrix.double())
                values |= self._rise("sharpness_xi", loss, self._of_cloud(spread, snapshot.seed))
                values |= self._rise("sharpness_isotropic", loss, self._isotropic(loss.point, spread, snapshot.seed))
        return values

    def _rise(self, name: str, loss: ProbeLoss, offsets: Tensor) -> Values:
        """The mean rise over the offsets (samples, d) and their mirror images, and its interval."""
        rises = loss.losses(loss.point + antithetic(offsets)) - loss.losses(loss.point[None])
        found = t_interval(rises.view(2, -1).mean(dim=0).tolist())
        return {name: found.estimate, f"{name}_lo": found.lo, f"{name}_hi": found.hi}

    def _on_sphere(self, like: Tensor, seed: int) -> Tensor:
        normal = self._normal(like, seed, "average")
        return self.rho * normal / normal.norm(dim=1, keepdim=True)

    def _isotropic(self, like: Tensor, spread: Cloud, seed: int) -> Tensor:
        return self._normal(like, seed, "isotropic") * math.sqrt(float(spread.trace) / len(like))

    def _of_cloud(self, spread: Cloud, seed: int) -> Tensor:
        return spread.offsets(spread.coefficients(self.samples, seed, "sharpness", "xi"))

    def _normal(self, like: Tensor, seed: int, purpose: str) -> Tensor:
        return normal((self.samples, len(like)), seed, "sharpness", purpose).to(like)


def _ascended(loss: ProbeLoss, rho: float) -> Tensor:
    """The point at distance rho along the gradient, (1, d)."""
    g = loss.gradients(loss.point[None])
    return loss.point + rho * g / (g.norm() + TINY)
