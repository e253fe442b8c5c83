"""A multi-layer perceptron on the flattened input."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from dsgd.kernels.batch_norm import batch_norm
from dsgd.models.activations import ACTIVATIONS, check_activation
from dsgd.models.shapes import check_norm, check_positive

if TYPE_CHECKING:
    from torch import nn

INITS: dict[str, Literal["relu", "linear"] | None] = {
    "uniform": None,
    "he": "relu",
    "lecun": "linear",
}  # and what PyTorch calls their gain
MOST_LAYERS = 1000


@dataclass(frozen=True)
class Mlp:
    """Hidden layers of `widths` with an activation after each, then a linear layer; no widths is softmax regression.

    `norm` is what stands before each activation: none, layer, or batch. `init` is how weights and biases are drawn:
    uniform, PyTorch's own way, both within fan_in^(-1/2) of 0; or from a normal distribution, with biases of 0: he, of
    variance 2 / fan_in, which keeps the size of activations through layers of ReLU (He et al. 2015, arXiv 1502.01852,
    equation 10), and lecun, of 1 / fan_in, which does so through linear ones (LeCun et al. 1998).
    """

    reads_tokens: ClassVar[bool] = False

    widths: tuple[int, ...] = (64, 32)
    activation: str = "tanh"
    norm: str = "none"
    init: str = "uniform"

    def __post_init__(self) -> None:
        check_positive("widths", self.widths)
        if len(self.widths) > MOST_LAYERS:
            raise ValueError(f"widths are {len(self.widths)} layers; give at most {MOST_LAYERS}")
        check_activation(self.activation)
        check_norm(self.norm, ("none", "layer", "batch"))
        if self.init not in INITS:
            raise ValueError(f"init is {self.init}; allowed are {', '.join(INITS)}")

    @property
    def least_batch_size(self) -> int:
        """Two where a mini-batch is normalised by its own spread."""
        return 2 if self.norm == "batch" else 1

    @property
    def smooth(self) -> bool:
        return not self.widths or ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to logits (batch, classes)."""
        sizes = (math.prod(shape), *self.widths)
        module = self._plain(sizes, classes) if self.norm == "none" else self._normalised(sizes, classes)
        if gain := INITS[self.init]:
            draw_normal(module, gain)
        return module

    def _plain(self, sizes: tuple[int, ...], classes: int) -> nn.Module:
        from torch import nn

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


def draw_normal(module: nn.Module, gain: Literal["relu", "linear"]) -> None:
    """Draws the weights of the linear layers anew, normal at this gain over fan_in, and sets their biases to 0."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity=gain)
            nn.init.zeros_(layer.bias)
