"""A multi-layer perceptron on the flattened input."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dsgd.kernels.batch_norm import batch_norm
from dsgd.models.activations import ACTIVATIONS, check_activation
from dsgd.models.shapes import check_norm, check_positive

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mlp:
    """Hidden layers of `widths` with an activation after each, then a linear layer; no widths is softmax regression.

    `norm` is what stands before each activation: none, layer, or batch. `init` uniform is torch's own; lecun draws the
    weights from N(0, 1 / inputs) (LeCun et al. 1998) and lets the biases start at 0.
    """

    widths: tuple[int, ...] = (64, 32)
    activation: str = "tanh"
    norm: str = "none"
    init: str = "uniform"

    def __post_init__(self) -> None:
        check_positive("widths", self.widths)
        check_activation(self.activation)
        check_norm(self.norm, ("none", "layer", "batch"))
        if self.init not in ("uniform", "lecun"):
            raise ValueError(f"init is {self.init}; allowed are uniform, lecun")

    @property
    def least_batch_size(self) -> int:
        """Two where a mini-batch is normalised by its own spread."""
        return 2 if self.norm == "batch" else 1

    @property
    def smooth(self) -> bool:
        return not self.widths or ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to logits (batch, classes)."""
        module = self._layers(shape, classes)
        if self.init == "lecun":
            _draw_lecun(module)
        return module

    def _layers(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        from torch import nn

        sizes = (math.prod(shape), *self.widths)
        if self.norm != "none":
            return self._normalised(sizes, classes)
        layers: list[nn.Module] = [nn.Flatten()]
        for into, out in pairwise(sizes):
            layers += [nn.Linear(into, out), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def _normalised(self, sizes: tuple[int, ...], classes: int) -> nn.Module:
        from torch import nn

        layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
        for k, (into, out) in enumerate(pairwise(sizes), start=1):
            layers[f"linear{k}"] = nn.Linear(into, out)
            layers[f"norm{k}"] = batch_norm(out) if self.norm == "batch" else nn.LayerNorm(out)
            layers[f"act{k}"] = ACTIVATIONS[self.activation]()
        return nn.Sequential(OrderedDict(**layers, output=nn.Linear(sizes[-1], classes)))


def _draw_lecun(module: nn.Module) -> None:
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
