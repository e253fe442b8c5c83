"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels in ten kinds of clothing.

Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747. The files are those of Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dsgd.data.examples import DataSet, Examples, check_train_size, standardised
from dsgd.data.folders import data_file, data_folders

if TYPE_CHECKING:
    from pathlib import Path

# SHA-256 of the decompressed bytes, in the order train images, train labels, test images, test labels.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
INSTALLED = "/usr/share/datasets/fashion-mnist"
TRAIN = 60_000
MOST_BYTES = 2**26
MEAN, STD = 0.2860, 0.3530
REMEDY = (
    "run `make data` (python -m dsgd.data.fetch) to put it in data/fashion-mnist, "
    "or set DSGD_DATA to the folder that holds it"
)


@dataclass(frozen=True)
class FashionMnist:
    """Images of shape (1, 28, 28), standardised; `train_size` keeps the first so many training examples."""

    train_size: int | None = None

    def __post_init__(self) -> None:
        check_train_size(self.train_size, TRAIN)

    def load(self) -> DataSet:
        """The data set; FileNotFoundError if a file is missing, ValueError if one is not the published one."""
        folders = data_folders("fashion-mnist", INSTALLED)
        return _load(self, tuple(data_file((f"{name}.gz", name), folders, REMEDY) for name in FILES))


@lru_cache(maxsize=4)
def _load(spec: FashionMnist, paths: tuple[Path, ...]) -> DataSet:
    images, labels, test_images, test_labels = map(verified_bytes, paths)
    return DataSet(
        _examples(images, labels, spec.train_size),
        _examples(test_images, test_labels),
        classes=10,
        sha256=hashlib.sha256("".join(FILES.values()).encode()).hexdigest(),
    )


def _examples(images: bytes, labels: bytes, size: int | None = None) -> Examples:
    """The first `size` examples of two IDX files, whose headers take 16 and 8 bytes."""
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)[:size]
    return Examples(standardised(pixels, MEAN, STD), np.frombuffer(labels, np.uint8, offset=8)[:size].astype(np.int64))


def verified_bytes(path: Path) -> bytes:
    """The decompressed bytes of one of FILES, gzipped or not; ValueError if they are not the published ones."""
    expected = FILES[path.name.removesuffix(".gz")]
    content = _decompressed(path, expected)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(
            f"The file {path} is not the published one: its SHA-256 is {found}, expected {expected}; "
            "delete it and run `make data`."
        )
    return content


def _decompressed(path: Path, expected: str) -> bytes:
    try:
        with path.open("rb") if path.suffix != ".gz" else gzip.open(path) as file:
            return file.read(MOST_BYTES)  # the hash of a longer one is another
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"The file {path} is a broken gzip file ({error}), expected one whose content has SHA-256 {expected}; "
            "delete it and run `make data`."
        ) from error
