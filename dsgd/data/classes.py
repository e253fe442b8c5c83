"""A data set of which some classes are trained on, and the others emerge later: they are in its test examples alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.randomness import generator


@dataclass(frozen=True)
class EmergingClasses:
    """The training examples of `base` classes of `source`, and all its test examples.

    The classes are numbered anew, in an order keyed by `order`, so that those trained on are 0 to `base` - 1.
    """

    source: DataSource
    base: int = 6
    order: int = 0

    def __post_init__(self) -> None:
        if self.base < 2:
            raise ValueError(f"base is {self.base}; it must be at least 2 classes")
        if self.order < 0:
            raise ValueError(f"order is {self.order}; it must be at least 0")

    def load(self) -> DataSet:
        """The data set; ValueError unless some classes are left to emerge."""
        whole = self.source.load()
        if whole.classes < 3:
            raise ValueError(f"source has {whole.classes} classes; take data of 3 or more, so that some emerge")
        if self.base >= whole.classes:
            raise ValueError(f"base is {self.base}; it must be 2 to {whole.classes - 1}, so that some classes emerge")
        number = generator(self.order, "classes", "order").permutation(whole.classes)
        train, test = number[whole.train.y], number[whole.test.y]
        known = train < self.base
        return replace(
            whole,
            train=Examples(whole.train.x[known], train[known].astype(np.int64)),
            test=Examples(whole.test.x, test.astype(np.int64)),
        )
