"""The exclusive or of two of d signs: x uniform on {-1, 1}^d, y = x1 x2.

Source: Wen, Li & Ma 2023, arXiv 2307.11007, section 2 (P_xor) and condition 1; no label is ever wrong.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from dsgd.data.examples import DataSet, Examples, Inputs
from dsgd.randomness import generator

SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # of x1 and x2
MOST_NUMBERS = 2**26


@dataclass(frozen=True)
class Xor:
    """Inputs (dimension,) of signs with label 1 where x1 x2 = 1 and 0 where it is -1; the loss is (f - y)^2.

    Another `split` is another draw of both parts. `crossed` training inputs are condition 1's: all four signs of
    (x1, x2) times train_size / 4 draws of the other signs, drawn anew until their differences span all directions.
    """

    dimension: int = 30
    train_size: int = 100
    test_size: int = 5000
    split: int = 0
    crossed: bool = False

    def __post_init__(self) -> None:
        if self.dimension < 2:
            raise ValueError(f"dimension={self.dimension} is not possible: give at least 2.")
        for name in ("train_size", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not possible: give at least 1.")
        numbers = self.dimension * (self.train_size + self.test_size)
        if numbers > MOST_NUMBERS:
            raise ValueError(
                f"dimension={self.dimension} is not possible for {self.train_size + self.test_size} examples: give at "
                f"most {MOST_NUMBERS} numbers in all."
            )
        if self.split < 0:
            raise ValueError(f"split={self.split} is not possible: give a number from 0 on.")
        if self.crossed and (self.train_size % 4 or self.train_size < 4 * (self.dimension - 1)):
            raise ValueError(
                f"train_size={self.train_size} is not possible for crossed inputs of dimension {self.dimension}: give "
                f"a multiple of 4 that is at least {4 * (self.dimension - 1)}."
            )

    @property
    def alike(self) -> Xor:
        """The first draw, of the same sizes: runs that differ only in the draw are trained together."""
        return replace(self, split=0)

    def load(self) -> DataSet:
        """The data set; a few milliseconds the first time."""
        return _load(self)


@lru_cache(maxsize=64)
def _load(spec: Xor) -> DataSet:
    train = _crossed(spec) if spec.crossed else _signs(spec, spec.train_size, spec.dimension, "train")
    test = _signs(spec, spec.test_size, spec.dimension, "test")
    found = hashlib.sha256(train.tobytes() + test.tobytes()).hexdigest()
    return DataSet(_labelled(train), _labelled(test), 2, found, "signed_squared_error")


def _crossed(spec: Xor) -> Inputs:
    for attempt in range(100):
        rest = _signs(spec, spec.train_size // 4, spec.dimension - 2, "crossed", attempt)
        if np.linalg.matrix_rank(rest[1:] - rest[0]) == spec.dimension - 2:
            pairs = np.repeat(np.array(SIGNS, np.float32), len(rest), axis=0)
            return np.concatenate([pairs, np.tile(rest, (len(SIGNS), 1))], axis=1)
    raise ValueError(
        f"split={spec.split} has no crossed inputs whose differences span all {spec.dimension - 2} directions: give a "
        "larger train_size."
    )


def _signs(spec: Xor, count: int, dimension: int, *purpose: str | int) -> Inputs:
    bits = generator(spec.split, "xor", *purpose).integers(0, 2, (count, dimension))
    return (2 * bits - 1).astype(np.float32)


def _labelled(x: Inputs) -> Examples:
    return Examples(x, (x[:, 0] * x[:, 1] > 0).astype(np.int64))
