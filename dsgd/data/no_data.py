"""No data at all: one empty example, for landscapes whose output is itself the loss."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np

from dsgd.data.examples import DataSet, Examples


@dataclass(frozen=True)
class NoData:
    """One input of shape (0,) with label 0, to train and to test on; the criterion is "output"."""

    def load(self) -> DataSet:
        """The data set of one empty example."""
        return _load()


@cache
def _load() -> DataSet:
    empty = Examples(np.zeros((1, 0), np.float32), np.zeros(1, np.int64))
    return DataSet(empty, empty, classes=1, sha256=hashlib.sha256().hexdigest(), criterion="output")
