"""Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) that changes nothing in place.

In training mode it takes the mini-batch's own statistics, and notes them where it is asked to; its running statistics
are the replica's, carried beside its parameters and given back when it is judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-5
MOMENTUM = 0.1  # weight of the newest statistics, as torch has it


def batch_norm(channels: int) -> nn.Module:
    """A layer for inputs (batch, channels, ...)."""
    layer: nn.Module = batch_norm_class()(channels)
    return layer


def batch_norms(module: nn.Module) -> list[Any]:
    """The layers of this kind in a module, in its order."""
    return [layer for layer in module.modules() if isinstance(layer, batch_norm_class())]


def running(module: nn.Module) -> dict[str, Tensor]:
    """The running statistics of these layers by their names in the module."""
    layers = [(at, layer) for at, layer in module.named_modules() if isinstance(layer, batch_norm_class())]
    return {f"{at}.{name}".lstrip("."): buffer for at, layer in layers for name, buffer in layer.named_buffers()}


@contextmanager
def noted(module: nn.Module) -> Iterator[list[Tensor]]:
    """Mean and unbiased variance of what enters each such layer in the passes of the block, in the order of buffers."""
    found: list[Tensor] = []
    for layer in batch_norms(module):
        layer.noted = found
    try:
        yield found
    finally:
        for layer in batch_norms(module):
            layer.noted = None


@cache
def batch_norm_class() -> Any:
    """The class of the layer; a function makes it, because naming a model must not import torch."""
    import torch
    from torch import nn

    class BatchNorm(nn.Module):
        running_mean: Tensor
        running_var: Tensor

        def __init__(self, channels: int) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))
            self.noted: list[Tensor] | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.noted is not None:
                dims = [0, *range(2, x.dim())]
                self.noted += [x.mean(dim=dims), x.var(dim=dims)]
            mean, var = (self.running_mean, self.running_var) if not self.training else (None, None)
            return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, self.training, eps=EPS)

    return BatchNorm
