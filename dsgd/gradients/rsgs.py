"""Reliable surrogate gap minimisation on entropies, without labels: project specification.

After the abstract of Yu, Lu & Zhang 2025, arXiv 2506.05736, whose text was not at hand, out of GSAM (arXiv 2203.08065,
algorithm 1) and the entropies and filters of SAR (Niu et al. 2023, arXiv 2302.12400).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from dsgd import trees
from dsgd.gradients.gradient import TINY, Estimate, check_radius
from dsgd.gradients.moves import without_across
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

Adapts = Literal["all", "normalisation"]


@dataclass(frozen=True)
class Rsgs:
    """g = h' - alpha h_perp, as in GSAM, of the mean entropy H of the predictions of sure examples, unlabelled.

    h is over the examples with H < `margin` ln(classes), h' at w + rho h / |h| over those of them that are so there
    too; without any the gradient is 0. Outputs are multiplied by `sharpness`. `adapts` normalisation: all but the
    leaves of normalisation layers, those with "norm" or "bn" in their names, stay. SAR at alpha = 0; Tent at alpha =
    rho = 0 without a margin (inf).
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2 and 2 forward passes"
    classifies: ClassVar[bool] = True

    rho: float = 0.05
    alpha: float = 0.1
    margin: float = 0.4
    sharpness: float = 1.0
    adapts: Adapts = "all"

    def __post_init__(self) -> None:
        check_radius(self.rho)
        for name in ("alpha", "margin"):
            check_radius(getattr(self, name), name)
        if not self.sharpness > 0:
            raise ValueError(f"sharpness is {self.sharpness}; it must be above 0")
        if self.adapts not in get_args(Adapts):
            raise ValueError(f"adapts is {self.adapts}; allowed are {', '.join(get_args(Adapts))}")

    @cached_property
    def entropy(self) -> Entropy:
        return Entropy(self.sharpness)

    def init(self, p: Params) -> Memory:
        self._adapted(p)
        return {name: p.matrix.new_zeros(p.rows, 1) for name in ("kept", "length", "entropy")}

    def estimate(
        self, objective: Objective, p: Params, buffers: Memory, noise: Noise, memory: Memory, at: When
    ) -> Estimate:
        unlabelled, adapted = objective.under(self.entropy), self._adapted(p)
        sure = self._sure(objective, p)
        loss, g = unlabelled.loss_and_grad(p, mean_over(sure, p.matrix))
        g = _only(g, adapted)
        worst = trees.moved(p, g, self.rho / (trees.norm(g) + TINY))
        still = sure & self._sure(objective, worst)
        entropy, perturbed = unlabelled.loss_and_grad(worst, mean_over(still, p.matrix))
        perturbed = _only(perturbed, adapted)
        grads = without_across(g, perturbed, self.alpha) if self.alpha else perturbed
        grads = grads * still.any(dim=1).to(p.matrix.dtype)
        kept = still.to(p.matrix.dtype).mean(dim=1, keepdim=True)
        length = (worst.matrix - p.matrix).norm(dim=1, keepdim=True)
        return Estimate(loss, grads, buffers, {"kept": kept, "length": length, "entropy": entropy.unsqueeze(1)})

    def _sure(self, objective: Objective, p: Params) -> Tensor:
        """Which examples (rows, B) have an entropy below the margin."""
        outputs = objective.logits(p)
        return self.entropy(outputs, objective.y) < self.margin * math.log(outputs.shape[-1])

    def _adapted(self, p: Params) -> Tensor | None:
        """Which of the d numbers move; None: all."""
        if self.adapts == "all":
            return None
        if not any("norm" in name or "bn" in name for name in p.layout.names):
            raise ValueError(
                "adapts is normalisation, but no parameter's name has norm or bn in it; take a model with such layers, "
                "or adapts all"
            )
        return trees.leaves_with(p, "norm") | trees.leaves_with(p, "bn")


@dataclass(frozen=True)
class Entropy:
    """The entropy (..., B) of the predictions that outputs (..., B, classes) times `sharpness` make."""

    sharpness: float = 1.0

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        log_p = (self.sharpness * outputs).log_softmax(dim=-1)
        return -(log_p.exp() * log_p).sum(dim=-1)


def mean_over(chosen: Tensor, like: Tensor) -> Tensor:
    """Weights (rows, B), numbers as in `like`, by which a sum is the mean over those chosen, 0 where there are none."""
    weights = chosen.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _only(g: Params, chosen: Tensor | None) -> Params:
    return g if chosen is None else g.like(g.matrix.where(chosen, 0.0))
