"""A two-layer network with simplified batch normalisation by all training inputs: it looks beyond its mini-batch.

Source: Wen, Li & Ma 2023, arXiv 2307.11007, section 2, 2-MLP-Sim-BN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dsgd.kernels.sim_bn import sim_bn
from dsgd.models.shapes import check_positive

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SimBn:
    """W2 [gamma a / sqrt(mean_i a(x_i)^2)], a = relu(W1 x + b) of `width`, x_i the task's training inputs.

    gamma starts at 1, the rest at torch's default. All replicas normalise by all training inputs, whatever share
    of them a partition gives each.
    """

    reads_tokens: ClassVar[bool] = False

    width: int = 40

    def __post_init__(self) -> None:
        check_positive("width", (self.width,))

    @property
    def smooth(self) -> bool:
        return False

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to outputs (batch, classes).

        `dsgd.tasks.module_for` has it normalise by the task's inputs; until then it does by one, of ones.
        """
        return sim_bn(shape, self.width, classes)
