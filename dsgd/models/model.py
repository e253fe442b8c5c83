"""The interface of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn


class Model(Protocol):
    """A frozen value that names a model; nothing in it is in place or random, nor depends on the rest of the batch.

    Exceptions are `dsgd.kernels.batch_norm`, whose running statistics are carried beside the parameters, and
    `dsgd.kernels.sim_bn`, which normalises by all training inputs. One whose output is itself the loss has a class
    attribute `criterion = "output"`; a module that embeds tokens has `embedding_width` (`Network.noise_shape`), and one
    that is not made for tokens (`DataSet.tokens`) may say so by `reads_tokens = False`.
    """

    @property
    def smooth(self) -> bool:
        """Whether the loss is C^4 in the parameters."""
        ...

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A float32 module for inputs of `shape`, with `classes` outputs, a `DataSet`'s `outputs`.

        Its start comes from torch's generator, which the caller seeds.
        """
        ...
