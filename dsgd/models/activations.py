"""The activations a model may use, and which of them are smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Activation:
    """The torch layer of that name, made anew by every call; `smooth` if it is C^4."""

    layer: str
    smooth: bool
    settings: tuple[float, ...] = ()

    def __call__(self) -> nn.Module:
        from torch import nn

        layer: nn.Module = getattr(nn, self.layer)(*self.settings)
        return layer


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation("Tanh", smooth=True),
    "gelu": Activation("GELU", smooth=True),
    # beta 1, threshold 40: torch's threshold of 20 replaces the curve by a line 2e-9 away, a kink in float64.
    "softplus": Activation("Softplus", smooth=True, settings=(1.0, 40.0)),
    "relu": Activation("ReLU", smooth=False),
}


def check_activation(name: str) -> None:
    """ValueError unless `name` is in ACTIVATIONS."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is unknown: use one of {', '.join(ACTIVATIONS)}.")
