"""Residual networks for small images, by default with GroupNorm in place of BatchNorm: no example sees another.

Source: He et al. 2016, arXiv:1512.03385, section 4.2, with the projecting shortcuts (option B); GroupNorm after Wu and
He 2018, arXiv:1803.08494. The stem is a 3 x 3 convolution without pooling, as is usual for CIFAR-10.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsgd.kernels.batch_norm import batch_norm
from dsgd.models.activations import ACTIVATIONS, Activation, check_activation
from dsgd.models.shapes import check_image, check_norm
from dsgd.models.weights import load_weights

if TYPE_CHECKING:
    from torch import Tensor, nn


Norm = Callable[[int], "nn.Module"]


@dataclass(frozen=True)
class ResNet8:
    """Three stages of one block with 16, 32 and 64 channels: 78,042 parameters on CIFAR-10.

    `norm` is group, of so many `groups`, or batch.
    """

    activation: str = "relu"
    groups: int = 8
    norm: str = "group"

    def __post_init__(self) -> None:
        check_activation(self.activation)
        check_norm(self.norm, ("group", "batch"))
        _check_groups(self.groups, 16)

    @property
    def least_batch_size(self) -> int:
        """Two where a mini-batch is normalised by its own spread."""
        return 2 if self.norm == "batch" else 1

    @property
    def smooth(self) -> bool:
        return ACTIVATIONS[self.activation].smooth

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from images (batch, *shape) to logits (batch, classes)."""
        check_image(shape, "resnet8")
        parts = ACTIVATIONS[self.activation], _norm(self.norm, self.groups)
        return _residual_network(shape[0], classes, (16, 32, 64), 1, *parts)


@dataclass(frozen=True)
class ResNet18:
    """Four stages of two blocks with 64 to 512 channels: 11,173,962 parameters on CIFAR-10.

    `norm` is group, of so many `groups`, or batch. `weights` is the path of a safetensors state dict to start from,
    named as torchvision names its ResNet-18.
    """

    activation: str = "relu"
    groups: int = 32
    weights: str | None = None
    norm: str = "group"

    def __post_init__(self) -> None:
        check_activation(self.activation)
        check_norm(self.norm, ("group", "batch"))
        _check_groups(self.groups, 64)

    @property
    def least_batch_size(self) -> int:
        """Two where a mini-batch is normalised by its own spread."""
        return 2 if self.norm == "batch" else 1

    @property
    def smooth(self) -> bool:
        return ACTIVATIONS[self.activation].smooth

    def files(self) -> tuple[Path, ...]:
        """The file that decides the start."""
        return () if self.weights is None else (Path(self.weights),)

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from images (batch, *shape) to logits (batch, classes); raises as `load_weights` does."""
        check_image(shape, "resnet18")
        parts = ACTIVATIONS[self.activation], _norm(self.norm, self.groups)
        model = _residual_network(shape[0], classes, (64, 128, 256, 512), 2, *parts)
        if self.weights is not None:
            load_weights(model, Path(self.weights))
        return model


def _check_groups(groups: int, narrowest: int) -> None:
    if groups < 1 or narrowest % groups:
        raise ValueError(
            f"groups={groups} is not possible: give a divisor of {narrowest}, the narrowest layer's channels."
        )


def _norm(norm: str, groups: int) -> Norm:
    """What makes a normalisation layer for so many channels."""
    from torch import nn

    return batch_norm if norm == "batch" else partial(nn.GroupNorm, groups)


def _residual_network(
    into: int, classes: int, widths: tuple[int, ...], blocks: int, activation: Activation, norm: Norm
) -> nn.Module:
    from torch import nn

    # The names are torchvision's, so that a state dict made there with norm_layer=GroupNorm and this stem fits.
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(into, widths[0], 3, padding=1, bias=False),
        bn1=norm(widths[0]),
        act=activation(),
    )
    before = widths[0]
    for stage, width in enumerate(widths, start=1):
        layers[f"layer{stage}"] = _stage(before, width, 1 if stage == 1 else 2, blocks, activation, norm)
        before = width
    layers.update(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(before, classes))
    return nn.Sequential(layers)


def _stage(into: int, out: int, stride: int, blocks: int, activation: Activation, norm: Norm) -> nn.Module:
    """Blocks of `out` channels, of which the first divides height and width by `stride`."""
    from torch import nn

    block = _block_class()
    first = block(into, out, stride, activation, norm)
    return nn.Sequential(first, *(block(out, out, 1, activation, norm) for _ in range(blocks - 1)))


@cache
def _block_class() -> type[nn.Module]:
    """The class of a residual block; a function makes it, because naming the model must not import torch."""
    from torch import nn

    class Block(nn.Module):
        """act(norm(conv(act(norm(conv(x))))) + shortcut(x)), the shortcut 1 x 1 where the shape changes."""

        def __init__(self, into: int, out: int, stride: int, activation: Activation, norm: Norm) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(into, out, 3, stride, padding=1, bias=False)
            self.bn1 = norm(out)
            self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
            self.bn2 = norm(out)
            self.act = activation()
            self.downsample = nn.Sequential()
            if stride != 1 or into != out:
                self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), norm(out))

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.act(self.bn1(self.conv1(x)))
            output: Tensor = self.act(self.bn2(self.conv2(hidden)) + self.downsample(x))
            return output

    return Block
