"""Models as frozen values: `build` makes a plain torch module, `smooth` says whether its loss is C^4."""

from __future__ import annotations

from dsgd.models.activations import ACTIVATIONS
from dsgd.models.cnn import Cnn
from dsgd.models.cosine import Cosine
from dsgd.models.linear import Linear
from dsgd.models.mlp import Mlp
from dsgd.models.model import Model
from dsgd.models.neural_lm import NeuralLm
from dsgd.models.own import from_torch
from dsgd.models.quadratic import Quadratic
from dsgd.models.quadratic_regression import QuadraticRegression
from dsgd.models.resnet import ResNet8, ResNet18
from dsgd.models.sim_bn import SimBn
from dsgd.models.transformer import Transformer
from dsgd.models.two_layer import TwoLayer

MODELS: dict[str, type[Model]] = {
    "linear": Linear,
    "mlp": Mlp,
    "two_layer": TwoLayer,
    "sim_bn": SimBn,
    "cnn": Cnn,
    "resnet8": ResNet8,
    "resnet18": ResNet18,
    "quadratic": Quadratic,
    "quadratic_regression": QuadraticRegression,
    "cosine": Cosine,
    "neural_lm": NeuralLm,
    "transformer": Transformer,
}

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "Cnn",
    "Cosine",
    "Linear",
    "Mlp",
    "Model",
    "NeuralLm",
    "Quadratic",
    "QuadraticRegression",
    "ResNet8",
    "ResNet18",
    "SimBn",
    "Transformer",
    "TwoLayer",
    "from_torch",
]
