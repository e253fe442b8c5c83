"""Any data set's labels as numbers to regress: the squared error on which sharpness grows to the edge of stability.

Agarwala & Dauphin 2023, arXiv 2302.08692, and Cohen et al. 2021, arXiv 2103.00065, train so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dsgd.data.digits import Digits
from dsgd.data.examples import DataSet, DataSource, Examples, Inputs


@dataclass(frozen=True)
class Regression:
    """The examples of `source` under the loss |f - y|^2 / 2, y one-hot less 1 / classes.

    `standardise` takes the mean training input from every input, and divides by the spread of what is left.
    """

    source: DataSource = field(default_factory=Digits)
    standardise: bool = True

    def load(self) -> DataSet:
        """The data set; ValueError where the source has no labels."""
        whole = self.source.load()
        if whole.criterion != "cross_entropy":
            raise ValueError(f"source {type(self.source).__name__} has no labels to regress; take a set of examples")
        if whole.tokens:
            raise ValueError("source has tokens for inputs, whose differences mean nothing; take data of numbers")
        mean = whole.train.x.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = (whole.train.x - mean).std(dtype=np.float64).astype(np.float32) or np.float32(1)

        def inputs(x: Inputs) -> Inputs:
            return (x - mean) / spread if self.standardise else x

        train, test = (Examples(inputs(part.x), part.y) for part in (whole.train, whole.test))
        return DataSet(train, test, whole.classes, whole.sha256, "squared_error")
