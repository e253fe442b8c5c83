"""The 1,797 handwritten digits of 8 x 8 pixels that come inside scikit-learn, so that a first run downloads nothing.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsgd.data.examples import DataSet, Examples, Labels, Pixels, check_train_size
from dsgd.randomness import generator

ALL, TEST = 1797, 360


@dataclass(frozen=True)
class Digits:
    """Images of shape (1, 8, 8) with pixels in [0, 1]; 1,437 to train on, 360 to test on, the same for every seed.

    `train_size` keeps the first so many of the shuffled training examples. Another `test_size` is another split, for
    studies that need many examples to judge by, and so is another `split`, for those of more than one test set.
    `centred` pixels are in [-1, 1].
    """

    train_size: int | None = None
    test_size: int = TEST
    split: int = 0
    centred: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.test_size < ALL:
            raise ValueError(f"test_size={self.test_size} is not possible: give 1 to {ALL - 1}.")
        if self.split < 0:
            raise ValueError(f"split={self.split} is not possible: give a number from 0 on.")
        check_train_size(self.train_size, ALL - self.test_size)

    def load(self) -> DataSet:
        """The data set; about 10 milliseconds the first time. ModuleNotFoundError without scikit-learn."""
        return _load(self)


@lru_cache(maxsize=8)
def _load(spec: Digits) -> DataSet:
    pixels, y = _pixels_and_labels()
    scaled = pixels / 8 - 1 if spec.centred else pixels / 16
    x = scaled.astype(np.float32).reshape(-1, 1, 8, 8)
    train, test = stratified_split(y, spec.test_size, generator(spec.split, "digits", "split"))
    train = train[: spec.train_size]
    found = hashlib.sha256(pixels.tobytes() + y.tobytes()).hexdigest()
    return DataSet(Examples(x[train], y[train]), Examples(x[test], y[test]), classes=10, sha256=found)


def stratified_split(
    y: Labels, test_size: int, stream: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Shuffled indices to train on and to test on; every class gives the test its share, up to one example."""
    order = stream.permutation(len(y))
    quantile = np.empty(len(y))
    for label in np.unique(y):
        members = order[y[order] == label]
        quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
    tested = np.isin(order, np.argsort(quantile, kind="stable")[:test_size])
    return order[~tested], order[tested]


def _pixels_and_labels() -> tuple[Pixels, Labels]:
    """Pixels from 0 to 16, shape (1797, 64), and labels."""
    table = _table()
    return table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)


def _table() -> npt.NDArray[np.float64]:
    """The rows of scikit-learn's own file: 10 milliseconds, where importing sklearn.datasets takes a second."""
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    return _table_by_import()


def _table_by_import() -> npt.NDArray[np.float64]:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # it has no types

    digits = load_digits()
    return np.column_stack([digits.data, digits.target])
