"""Imbalanced SAM: Zhou et al. 2023, arXiv 2308.07815: the tail classes' loss alone is made flat.

Source: the authors' code at its first release; `tail_weight` 2 is what that code has done since September 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.gradients.moves import ascended
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params, Scaled

Counts = Literal["global", "local"]


@dataclass(frozen=True)
class ImbSam:
    """g = grad L_head(w) + c grad L_tail(w + e), e = rho grad L_tail(w) / |grad L_tail(w)|, c the `tail_weight`.

    L_head and L_tail add up to the mini-batch loss. A class is of the tail if it has fewer than `eta` training
    examples: in all (`counts` global), or of the replica's own (local). A mini-batch without any is a plain step's.
    The metric `gauges` reports the share of tail examples.
    """

    row_wise: ClassVar[bool] = False  # what a run's data hold is not another's
    cost: ClassVar[str] = "3"
    classifies: ClassVar[bool] = True

    rho: float = 0.05
    eta: float = 20
    tail_weight: float = 1.0
    counts: Counts = "global"

    def __post_init__(self) -> None:
        check_least(self, rho=0, eta=0)
        if not self.tail_weight > 0:
            raise ValueError(f"tail_weight is {self.tail_weight}; it must be above 0")
        check_choice("counts", self.counts, Counts)

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        y = objective.y.expand(p.rows, -1)
        tail = (objective.class_counts(self.counts) < self.eta).expand(p.rows, -1).gather(1, y)
        weights = tail.to(p.matrix.dtype) / y.shape[1]
        loss, g = objective.loss_and_grad(p)
        of_tail = objective.loss_and_grad(p, weights)[1]
        worst = ascended(p, of_tail, self.rho)
        flat = objective.loss_and_grad(worst, weights)[1]
        share = tail.to(p.matrix.dtype).mean(dim=1, keepdim=True)
        return Estimate(loss, g - of_tail + Scaled(flat, self.tail_weight), memory, {"tail": share})
