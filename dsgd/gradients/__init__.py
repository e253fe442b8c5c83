"""Where to take the gradient: one method of one paper a file."""

from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.gradient import Estimate, Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.random_direction import RandomDirection
from dsgd.gradients.sources import SOURCES, Source
from dsgd.gradients.weight_diversity import WeightDiversity

GRADIENTS: dict[str, type[Gradient]] = {
    "plain": Plain,
    "random_direction": RandomDirection,
    "average_direction": AverageDirection,
    "weight_diversity": WeightDiversity,
}

__all__ = ["GRADIENTS", "SOURCES", "Estimate", "Gradient", "Source"]
