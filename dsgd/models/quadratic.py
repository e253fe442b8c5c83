"""The quadratic landscape 1/2 sum_i h_i w_i^2: with no data, its output is itself the loss.

On it the Hessian, its trace and the stationary law of D-SGD are known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from dsgd.models.shapes import check_count, check_positive

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Quadratic:
    """The parameter `w` of shape (dimension,) starts at zero; curvatures h are one number, or a tuple taken in turn."""

    criterion: ClassVar[str] = "output"

    dimension: int = 1000
    curvature: tuple[float, ...] | float = 0.0

    def __post_init__(self) -> None:
        check_positive("dimension", (self.dimension,))
        check_count("dimension", self.dimension)
        if not self._cycle or not all(map(math.isfinite, self._cycle)):
            raise ValueError(f"curvature={self.curvature} is not possible: give one finite number, or a list of them.")

    @property
    def _cycle(self) -> tuple[float, ...]:
        return self.curvature if isinstance(self.curvature, tuple) else (self.curvature,)

    @property
    def smooth(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, ...), of which only the number counts, to equal losses (batch,)."""
        import torch

        turns = -(-self.dimension // len(self._cycle))
        curvatures = torch.tensor(self._cycle * turns, dtype=torch.float64)[: self.dimension]
        return _landscape_class()(curvatures)


@cache
def _landscape_class() -> type[nn.Module]:
    """The class of the landscape; a function makes it, because naming the model must not import torch."""
    import torch
    from torch import nn

    class Landscape(nn.Module):
        """1/2 sum_i h_i w_i^2; h is a float64 buffer, so that it is exact in whatever dtype w has."""

        h: Tensor

        def __init__(self, curvatures: Tensor) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(len(curvatures)))
            self.register_buffer("h", curvatures)

        def forward(self, x: Tensor) -> Tensor:
            return (0.5 * (self.h.to(self.w.dtype) * self.w * self.w).sum()).expand(len(x))

    return Landscape
