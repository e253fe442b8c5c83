"""A cosine classifier in the place of a model's last linear layer: Gidaris & Komodakis 2018, arXiv 1804.09458.

Means of the features of a few examples then serve as weights of new classes; see `dsgd.adaptation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from dsgd.models.mlp import Mlp
from dsgd.models.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


@dataclass(frozen=True)
class Cosine:
    """The logit of class k is `scale` cos(f(x), c_k), f(x) what `features` gives to its last linear layer."""

    features: Model = field(default_factory=Mlp)
    scale: float = 16.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}; it must be above 0")

    @property
    def reads_tokens(self) -> bool:
        """As the features do."""
        return getattr(self.features, "reads_tokens", True)

    @property
    def least_batch_size(self) -> int:
        """That of the features."""
        return getattr(self.features, "least_batch_size", 1)

    @property
    def smooth(self) -> bool:
        return self.features.smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """The model's module with another last layer; ValueError where it has no linear one."""
        module = self.features.build(shape, classes)
        return with_output(module, lambda last: cosine_class()(last, self.scale))


def with_output(module: nn.Module, make: Callable[[Any], nn.Module]) -> nn.Module:
    """The module with what `make` makes of its last linear layer in that one's place; ValueError where it has none."""
    from torch import nn

    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | cosine_class())]
    if not names:
        raise ValueError("the model has no linear layer, before which its features would be; take mlp or a resnet")
    parent, _, name = names[-1].rpartition(".")
    setattr(module.get_submodule(parent), name, make(module.get_submodule(names[-1])))
    return module


@cache
def cosine_class() -> Any:
    """The class of the layer; a function makes it, because naming a model must not import torch."""
    from torch import nn
    from torch.nn.functional import linear, normalize

    class CosineLayer(nn.Module):
        def __init__(self, start: nn.Linear, scale: float) -> None:
            super().__init__()
            self.weight, self.scale = nn.Parameter(start.weight.detach().clone()), scale

        def forward(self, x: Tensor) -> Tensor:
            return linear(self.scale * normalize(x, dim=-1), normalize(self.weight, dim=-1))

    return CosineLayer
