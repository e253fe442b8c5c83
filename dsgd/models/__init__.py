"""Models as frozen values: `build` makes a plain torch module, `smooth` says whether its loss is C^4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from dsgd.models.activations import ACTIVATIONS
from dsgd.models.cnn import Cnn
from dsgd.models.linear import Linear
from dsgd.models.mlp import Mlp
from dsgd.models.quadratic import Quadratic
from dsgd.models.resnet import ResNet8, ResNet18
from dsgd.models.sim_bn import SimBn
from dsgd.models.two_layer import TwoLayer

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


MODELS: dict[str, type[Model]] = {
    "linear": Linear,
    "mlp": Mlp,
    "two_layer": TwoLayer,
    "sim_bn": SimBn,
    "cnn": Cnn,
    "resnet8": ResNet8,
    "resnet18": ResNet18,
    "quadratic": Quadratic,
}

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "Cnn",
    "Linear",
    "Mlp",
    "Model",
    "Quadratic",
    "ResNet8",
    "ResNet18",
    "SimBn",
    "TwoLayer",
]
