"""The interface of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


class Model(Protocol):
    """A frozen value that names a model; nothing in it is in place or random, nor depends on the rest of the batch.

    The exception is `dsgd.kernels.batch_norm`, whose running statistics are carried beside the parameters. One whose
    output is itself the loss has a class attribute `criterion = "output"`.
    """

    @property
    def smooth(self) -> bool:
        """Whether the loss is C^4 in the parameters."""
        ...

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A float32 module for inputs of `shape`; its start comes from torch's generator, which the caller seeds."""
        ...
