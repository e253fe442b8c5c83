"""The gradient of the mini-batch loss at the replica itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.gradients.gradient import Estimate
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params


@dataclass(frozen=True)
class Plain:
    """g = grad L_B(w)."""

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "1"

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        return Estimate(*objective.loss_and_grad(p), memory)
