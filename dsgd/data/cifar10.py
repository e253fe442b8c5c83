"""CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes, read from the user's own copy.

Source: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; the binary version of
https://www.cs.toronto.edu/~kriz/cifar.html, because unpickling the Python version would run code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dsgd.data.examples import DataSet, Examples, Pixels, check_train_size, standardised
from dsgd.data.folders import data_file, data_folders

if TYPE_CHECKING:
    from pathlib import Path

FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue planes
FILE_BYTES = 10_000 * RECORD
TRAIN = 50_000
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(3, 1, 1)
STD = np.array([0.2470, 0.2435, 0.2616], np.float32).reshape(3, 1, 1)
REMEDY = (
    "unpack cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html into data/, "
    "or set DSGD_DATA to the folder that holds it"
)


@dataclass(frozen=True)
class Cifar10:
    """Images of shape (3, 32, 32), standardised a channel; `train_size` keeps the first so many training examples."""

    train_size: int | None = None

    def __post_init__(self) -> None:
        check_train_size(self.train_size, TRAIN)

    def load(self) -> DataSet:
        """The data set; FileNotFoundError if a file is missing, ValueError if one has a wrong size or label."""
        folders = data_folders("cifar-10-batches-bin")
        return _load(self, tuple(data_file((name,), folders, REMEDY) for name in FILES))


@lru_cache(maxsize=2)
def _load(spec: Cifar10, paths: tuple[Path, ...]) -> DataSet:
    *train, test = map(_records, paths)
    digest = hashlib.sha256()
    for records in (*train, test):
        digest.update(records.data)
    kept = np.concatenate(train)[: spec.train_size]
    return DataSet(_examples(kept), _examples(test), classes=10, sha256=digest.hexdigest())


def _examples(records: Pixels) -> Examples:
    return Examples(standardised(records[:, 1:].reshape(-1, 3, 32, 32), MEAN, STD), records[:, 0].astype(np.int64))


def _records(path: Path) -> Pixels:
    """The records of one file, shape (10000, 3073): the label, then the pixels."""
    if (size := path.stat().st_size) != FILE_BYTES:
        raise ValueError(
            f"The file {path} has {size} bytes, expected {FILE_BYTES}: "
            "unpack cifar-10-binary.tar.gz (the binary version, not the Python one) again."
        )
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, RECORD)
    if (largest := records[:, 0].max()) > 9:
        raise ValueError(
            f"The file {path} has a label {largest}, expected labels from 0 to 9: unpack cifar-10-binary.tar.gz again."
        )
    return records
