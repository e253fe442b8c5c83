"""A multi-layer perceptron on the flattened input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dsgd.models.activations import ACTIVATIONS, check_activation
from dsgd.models.shapes import check_positive

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mlp:
    """Hidden layers of `widths` with an activation after each, then a linear layer; no widths is softmax regression."""

    widths: tuple[int, ...] = (64, 32)
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_positive("widths", self.widths)
        check_activation(self.activation)

    @property
    def smooth(self) -> bool:
        return not self.widths or ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to logits (batch, classes)."""
        from torch import nn

        layers: list[nn.Module] = [nn.Flatten()]
        for into, out in pairwise((math.prod(shape), *self.widths)):
            layers += [nn.Linear(into, out), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers, nn.Linear((math.prod(shape), *self.widths)[-1], classes))
