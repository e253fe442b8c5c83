"""Softmax regression: one linear layer, whose cross-entropy is convex."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Linear:
    """Logits W x + b of the flattened input."""

    reads_tokens: ClassVar[bool] = False

    @property
    def smooth(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, *shape) to logits (batch, classes)."""
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))
