"""A small convolutional network; it pools by averages, because a max-pool would have kinks whatever the activation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from dsgd.models.activations import ACTIVATIONS, check_activation
from dsgd.models.shapes import check_image, check_positive

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Cnn:
    """For each of `channels` a 3 x 3 convolution, the activation, and 2 x 2 averages; then a linear layer."""

    channels: tuple[int, ...] = (16, 32)
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_positive("channels", self.channels)
        check_activation(self.activation)

    @property
    def smooth(self) -> bool:
        return not self.channels or ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from images (batch, *shape) to logits (batch, classes); ValueError if they are too small."""
        from torch import nn

        channels, height, width = self._pooled(shape)
        layers: list[nn.Module] = []
        for into, out in pairwise((shape[0], *self.channels)):
            layers += [nn.Conv2d(into, out, 3, padding=1), ACTIVATIONS[self.activation](), nn.AvgPool2d(2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))

    def _pooled(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Channels, height and width at the linear layer."""
        check_image(shape, "cnn")
        halvings = len(self.channels)
        height, width = shape[1] >> halvings, shape[2] >> halvings
        if min(height, width) < 1:
            raise ValueError(
                f"A cnn with channels={self.channels} halves its images {halvings} times, too often for {shape[1]} x "
                f"{shape[2]} pixels: give at most {min(shape[1:]).bit_length() - 1} channels."
            )
        return (shape[0], *self.channels)[-1], height, width
