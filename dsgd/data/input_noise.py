"""Noisy inputs: every example with Gaussian noise of its own, the same whenever it is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.randomness import generator


@dataclass(frozen=True)
class InputNoise:
    """`source` with N(0, std^2) added to each number of each input, to train and to test on, the labels as they are.

    An example's noise is keyed by `draw` and its place in the split: fewer training examples have the same noise.
    """

    source: DataSource
    std: float = 0.3
    draw: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise ValueError(f"std is {self.std}; it must be at least 0 and finite, in the unit of the inputs")
        if self.draw < 0:
            raise ValueError(f"draw is {self.draw}; it must be at least 0")

    def load(self) -> DataSet:
        """The source with noisy copies of its inputs; ValueError where it has none."""
        return _load(self)


@lru_cache(maxsize=8)
def _load(spec: InputNoise) -> DataSet:
    whole = spec.source.load()
    if whole.criterion != "cross_entropy":
        raise ValueError(f"the criterion of {type(spec.source).__name__} is {whole.criterion}; take data with inputs")
    if whole.tokens:
        raise ValueError("source has tokens for inputs, to which no noise can be added; take data of numbers")
    train, test = (_noisy(spec, name, part) for name, part in (("train", whole.train), ("test", whole.test)))
    return DataSet(train, test, whole.classes, whole.sha256)


def _noisy(spec: InputNoise, name: str, part: Examples) -> Examples:
    noise = generator(spec.draw, "input_noise", name).standard_normal(part.x.shape, dtype=np.float32)
    return Examples(part.x + np.float32(spec.std) * noise, part.y)
