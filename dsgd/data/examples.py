"""A data set is two arrays of examples, to train on and to test on, and the hash of the bytes they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Inputs = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs `x`, float32 of shape (N, channels, height, width) or (N, features), and labels `y`, int64 of shape (N,).

    The arrays are shared by everybody who loads the data set: do not write into them.
    """

    x: Inputs
    y: Labels

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self.x.shape[1:]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Train and test examples with labels below `classes`; `sha256` is the hash of the source, before any cut.

    `criterion` says what the loss of one example is: "cross_entropy" of the model's output and the label,
    "squared_error", |output - one-hot label + 1 / classes|^2 / 2, "signed_squared_error", (f - y)^2 of the one output f
    and y = -1, +1 for the labels 0, 1, or "output", the model's output itself. `tokens` says that inputs are windows of
    tokens, numbers below `classes`, which only a language model can read.
    """

    train: Examples
    test: Examples
    classes: int
    sha256: str
    criterion: str = "cross_entropy"
    tokens: bool = False

    @property
    def outputs(self) -> int:
        """How many a model of these examples has."""
        return 1 if self.criterion == "signed_squared_error" else self.classes


class DataSource(Protocol):
    """A frozen value that names a data set; `load` reads it, from memory the second time.

    Where it is one of many draws of the same sizes, `alike` may name one for all of them: their runs are then trained
    together (`dsgd.packs`).
    """

    def load(self) -> DataSet: ...


def standardised(pixels: Pixels, mean: npt.ArrayLike, std: npt.ArrayLike) -> Inputs:
    """(pixels / 255 - mean) / std in float32; `mean` and `std` are numbers, or of shape (channels, 1, 1)."""
    x = pixels.astype(np.float32)
    x /= 255
    x -= np.asarray(mean, np.float32)
    x /= np.asarray(std, np.float32)
    return x


def check_train_size(train_size: int | None, available: int) -> None:
    """ValueError unless `train_size` is None (all) or between 1 and `available` examples."""
    if train_size is not None and not 1 <= train_size <= available:
        raise ValueError(
            f"train_size={train_size} is not possible: give 1 to {available}, or leave it out to train on all."
        )
