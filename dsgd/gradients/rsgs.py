"""Reliable surrogate gap minimisation on entropies, without labels: our reading of an abstract, not a reproduction.

That of Yu, Lu & Zhang 2025, arXiv 2506.05736; built of GSAM (arXiv 2203.08065,
algorithm 1) and the entropies and filters of SAR (Niu et al. 2023, arXiv 2302.12400).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from dsgd import trees
from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.gradients.moves import without_across
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import TINY, Params

if TYPE_CHECKING:
    from torch import Tensor

Adapts = Literal["all", "normalisation"]


@dataclass(frozen=True)
class Rsgs:
    """g = h' - alpha h_perp, as in GSAM, of the mean entropy H of the predictions of sure examples, unlabelled.

    h is over the examples with H < `margin` ln(classes), h' at w + rho h / |h| over those of them that are so there
    too; without any the gradient is 0. Outputs are multiplied by `scale`. `adapts` normalisation: all but the weights
    and biases of normalisation layers stay. SAR at alpha = 0; Tent at alpha = rho = 0 without a margin (inf).

    It adapts a model that is trained already; one that is not is sure of nothing. The metric `gauges` reports the share
    of examples kept, |e| as `length`, and their entropy at w + e.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2 and 2 forward passes"
    classifies: ClassVar[bool] = True

    rho: float = 0.05
    alpha: float = 0.1
    margin: float = 0.4
    scale: float = 1.0
    adapts: Adapts = "all"

    def __post_init__(self) -> None:
        check_least(self, rho=0, alpha=0, margin=0)
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; it must be above 0")
        check_choice("adapts", self.adapts, Adapts)

    @cached_property
    def entropy(self) -> Entropy:
        return Entropy(self.scale)

    def init(self, p: Params) -> Memory:
        self._adapted(p)
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        unlabelled, adapted = objective.under(self.entropy), self._adapted(p)
        sure = self._sure(objective, p)
        loss, g = unlabelled.loss_and_grad(p, mean_over(sure, p.matrix))
        g = _only(g, adapted)
        scale = self.rho / (trees.norm(g) + TINY)
        worst = trees.moved(p, g, scale)
        still = sure & self._sure(objective, worst)
        entropy, perturbed = unlabelled.loss_and_grad(worst, mean_over(still, p.matrix))
        perturbed = _only(perturbed, adapted)
        grads = without_across(g, perturbed, self.alpha) if self.alpha else perturbed
        if not (any_sure := still.any(dim=1)).all():
            grads = grads * any_sure.to(p.matrix.dtype)
        kept = still.to(p.matrix.dtype).mean(dim=1, keepdim=True)
        length = (scale * trees.norm(g)).unsqueeze(1)
        return Estimate(loss, grads, memory, {"kept": kept, "length": length, "entropy": entropy.unsqueeze(1)})

    def _sure(self, objective: Objective, p: Params) -> Tensor:
        """Which examples (rows, B) have an entropy below the margin."""
        outputs = objective.logits(p)
        return self.entropy(outputs, objective.y) < self.margin * math.log(outputs.shape[-1])

    def _adapted(self, p: Params) -> Tensor | None:
        """Which of the d numbers move; None: all."""
        if self.adapts == "all":
            return None
        names = trees.normalisation_names(p)
        if not names:
            raise ValueError(
                "adapts is normalisation, but the model has no normalisation layers; take one that has, or adapts all"
            )
        return trees.leaves_of(p, names)


@dataclass(frozen=True)
class Entropy:
    """The entropy (..., B) of the predictions that outputs (..., B, classes) times `scale` make."""

    scale: float = 1.0

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        log_p = (self.scale * outputs).log_softmax(dim=-1)
        return -(log_p.exp() * log_p).sum(dim=-1)


def mean_over(chosen: Tensor, like: Tensor) -> Tensor:
    """Weights (rows, B), numbers as in `like`, by which a sum is the mean over those chosen, 0 where there are none."""
    weights = chosen.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1)


def _only(g: Params, chosen: Tensor | None) -> Params:
    return g if chosen is None else g.like(g.matrix.where(chosen, 0.0))
