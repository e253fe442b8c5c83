"""The two-layer network of theory, A act(W x + b) + c, whose head A, c can be left at its random start.

Source: Du et al. 2019, arXiv:1810.02054, equation 1, where the head is fixed; here with torch's default start, which
has no separate factor 1 / sqrt(width). Without the head's c, plain or with norm sim_ln, it is that of Wen, Li & Ma
2023, arXiv:2307.11007, section 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from dsgd.kernels.two_layer import EPS, sim_ln
from dsgd.models.activations import ACTIVATIONS, check_activation
from dsgd.models.shapes import check_norm, check_positive

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class TwoLayer:
    """One hidden layer of `width`; `bias` in both layers, or with `head_bias` false in the first alone.

    Without `train_head` the head is a buffer. With `norm` sim_ln the head takes a / max(|a|, 1e-6), a the activations
    of one example.
    """

    reads_tokens: ClassVar[bool] = False

    width: int = 100
    activation: str = "relu"
    bias: bool = True
    train_head: bool = True
    head_bias: bool = True
    norm: str = "none"

    def __post_init__(self) -> None:
        check_positive("width", (self.width,))
        check_activation(self.activation)
        check_norm(self.norm, ("none", "sim_ln"))

    @property
    def smooth(self) -> bool:
        return ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to logits (batch, classes)."""
        from torch import nn

        hidden = nn.Linear(math.prod(shape), self.width, bias=self.bias)
        head: nn.Module = nn.Linear(self.width, classes, bias=self.bias and self.head_bias)
        if not self.train_head:
            head = _fixed_class()(head)
        norms = [sim_ln(EPS)] if self.norm == "sim_ln" else []
        return nn.Sequential(nn.Flatten(), hidden, ACTIVATIONS[self.activation](), *norms, head)


@cache
def _fixed_class() -> type[nn.Module]:
    """The class of a fixed layer; a function makes it, because naming the model must not import torch."""
    from torch import nn
    from torch.nn.functional import linear

    class Fixed(nn.Module):
        """A linear layer that is not trained, in the dtype of its input, which is that of the parameters."""

        weight: Tensor
        bias: Tensor | None

        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.register_buffer("weight", layer.weight.detach())
            self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

        def forward(self, x: Tensor) -> Tensor:
            return linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))

    return Fixed
