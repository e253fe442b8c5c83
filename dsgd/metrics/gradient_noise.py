"""How much the gradients of single examples scatter at the mean model: what mini-batches make of it is their noise."""

from __future__ import annotations

from dataclasses import dataclass

from dsgd.knobs import check_least
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import named, probe_losses


@dataclass(frozen=True)
class GradientNoise:
    """`gradient_variance` = tr Cov of one example's gradient, `gradient_norm_squared` = |their mean|^2; twins' by name.

    On the first `examples` training examples, in float64. A mini-batch of B drawn with replacement has gradient noise
    of variance gradient_variance / B; centralized SGD's implicit regulariser by it is lr / (4 B) gradient_variance
    (Smith et al. 2021, arXiv 2101.12176).
    """

    examples: int = 1000
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1)

    def __call__(self, snapshot: Snapshot) -> Values:
        values: Values = {}
        for name, loss in probe_losses(snapshot, self.examples).items():
            squared = float(loss.gradients(loss.point[None]).square().sum())
            variance = float(loss.squared_gradient_norms().mean()) - squared
            values |= {named(name, "gradient_variance"): variance, named(name, "gradient_norm_squared"): squared}
        return values
