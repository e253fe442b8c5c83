"""Data sets of a user's own, from what torch and Hugging Face make data sets of; neither is imported for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dsgd.data.examples import DataSet, Examples, Inputs

SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")  # where datasets' save_to_disk has been
MOST_CLASSES = 2**20


class Indexed(Protocol):
    """What torch calls a map-style data set: `len`, and items (x, y) by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Own:
    """A data set in memory: where it is `of`, and the hash of its examples and number of classes, its identity."""

    of: str
    sha256: str
    data: DataSet = field(repr=False, compare=False)

    def load(self) -> DataSet:
        """The data set."""
        return self.data


def from_torch(train: Indexed, test: Indexed, classes: int | None = None) -> Own:
    """The data of two torch data sets, such as torchvision's: their items are (x, y), y a class from 0 on.

    x is a tensor, an array or a PIL image; uint8 becomes numbers in [0, 1], images channels first. Without `classes`
    there are as many as the largest label asks for. Each item is read once. ValueError naming the example that does not
    fit.
    """
    parts = [_examples(_items(split), name) for split, name in ((train, "train"), (test, "test"))]
    return _own(type(train).__name__, parts, classes)


def from_hugging_face(
    dataset: Any,
    x: str | Sequence[str] = "image",
    y: str = "label",
    *,
    train: str = "train",
    test: str = "test",
    classes: int | None = None,
) -> Own:
    """The data of two splits of a Hugging Face data set: of one that is loaded, or by its name or folder.

    `x` is a column of images or arrays, or several of one number each, taken together; `y` one of classes, whose
    strings are numbered in their order. A folder is read as `save_to_disk` wrote it; a name is for
    `datasets.load_dataset`, which fetches it. ModuleNotFoundError where a name or folder is given and datasets is not
    installed; ValueError for a split, a column or an example that is not there or does not fit.
    """
    splits = _opened(dataset) if isinstance(dataset, str | Path) else dataset
    found = [_split(splits, name) for name in (train, test)]
    names = _class_names([split[y] for split in found if _has(split, y)])
    parts = [_examples(_rows(split, x, y, names, at), at) for split, at in zip(found, (train, test), strict=True)]
    return _own(str(dataset) if isinstance(dataset, str | Path) else type(dataset).__name__, parts, classes)


def _own(of: str, parts: Sequence[Examples], classes: int | None) -> Own:
    train, test = parts
    if train.shape != test.shape:
        raise ValueError(f"the examples of train have shape {train.shape}, those of test {test.shape}; give alike ones")
    least = 1 + max(int(part.y.max()) for part in (train, test))
    if classes is not None and classes < least:
        raise ValueError(f"classes is {classes}, but there are labels up to {least - 1}; give at least {least}")
    found = hashlib.sha256(f"{classes or least}\n".encode())
    for array in (train.x, train.y, test.x, test.y):
        found.update(f"{array.shape}\n".encode() + array.tobytes())
    digest = found.hexdigest()
    return Own(of, digest, DataSet(train, test, classes or least, digest))


def _items(split: Indexed) -> Iterable[tuple[Any, Any]]:
    for i in range(len(split)):
        item = split[i]
        if not (isinstance(item, tuple | list) and len(item) == 2):
            raise ValueError(f"example {i} is {type(item).__name__}; each must be a pair (x, y)")
        yield item[0], item[1]


def _examples(items: Iterable[tuple[Any, Any]], split: str) -> Examples:
    """The examples as arrays; ValueError where one does not fit the first."""
    inputs: list[Inputs] = []
    labels: list[int] = []
    for i, (x, y) in enumerate(items):
        inputs.append(_about(split, i, _input, x))
        labels.append(_about(split, i, _label, y))
        if inputs[-1].shape != inputs[0].shape:
            raise ValueError(
                f"{split}, example {i}: the input has shape {inputs[-1].shape}, the first {inputs[0].shape}; "
                "bring them to one"
            )
    if inputs and not inputs[0].size:
        raise ValueError(f"{split}, example 0: the input has shape {inputs[0].shape}, no numbers; give at least one")
    if not inputs:
        raise ValueError(f"{split} has no examples; give at least one")
    return Examples(np.stack(inputs), np.array(labels, np.int64))


def _about(split: str, i: int, read: Callable[[Any], Any], given: Any) -> Any:
    try:
        return read(given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{split}, example {i}: {error}") from None


def _input(given: Any) -> Inputs:
    """float32 of shape (features,) or (channels, height, width); a number alone is one feature."""
    array: npt.NDArray[Any] = np.asarray(given)
    if array.dtype.kind not in "buif":
        raise ValueError(f"the input is {type(given).__name__}; it must be numbers: add a transform, or name columns")
    x = array.astype(np.float32)
    if array.dtype == np.uint8:
        x /= 255
        x = x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0) if x.ndim == 3 and x.shape[-1] in (1, 3, 4) else x
    if not np.isfinite(x).all():
        raise ValueError("the input has numbers that are not finite")
    if x.ndim not in (0, 1, 3):
        raise ValueError(
            f"the input has shape {x.shape}; it must be (features,) or (channels, height, width): "
            "add a channel, or flatten it"
        )
    return np.ascontiguousarray(x if x.ndim else x[None])


def _label(given: Any) -> int:
    array = np.asarray(given)
    if array.size != 1 or array.dtype.kind not in "buif" or array.item() < 0 or int(array.item()) != array.item():
        raise ValueError(f"the label is {given!r}; it must be the number of a class, from 0 on")
    if array.item() >= MOST_CLASSES:
        raise ValueError(f"the label is {given!r}; classes are numbered from 0, and there are at most {MOST_CLASSES}")
    return int(array.item())


def _opened(dataset: str | Path) -> Any:
    """A data set from a folder, or by its name."""
    try:
        library = import_module("datasets")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"reading {dataset} needs Hugging Face's datasets; pip install datasets, or pass a data set that is loaded"
        ) from None
    if any((Path(dataset) / mark).is_file() for mark in SAVED):
        return library.load_from_disk(str(dataset))
    return library.load_dataset(str(dataset))


def _split(splits: Any, name: str) -> Any:
    if not isinstance(splits, Mapping):
        raise ValueError(f"{type(splits).__name__} has no splits; give a mapping of them, such as a DatasetDict")
    if name not in splits:
        raise ValueError(f"there is no split {name!r}; there are {', '.join(map(str, splits))}")
    return splits[name]


def _columns(split: Any) -> list[str]:
    return list(getattr(split, "column_names", None) or split)


def _has(split: Any, column: str) -> bool:
    return column in _columns(split)


def _rows(split: Any, x: str | Sequence[str], y: str, names: Mapping[str, int], at: str) -> Iterable[tuple[Any, Any]]:
    """The examples in turn."""
    wanted = [x] if isinstance(x, str) else list(x)
    if missing := [column for column in (*wanted, y) if not _has(split, column)]:
        raise ValueError(f"{at} has no column {missing[0]!r}; it has {', '.join(_columns(split))}")
    columns = [split[column] for column in wanted]
    for *values, label in zip(*columns, split[y], strict=True):
        yield values[0] if isinstance(x, str) else values, names.get(label, label) if names else label


def _class_names(columns: Sequence[Iterable[Any]]) -> dict[str, int]:
    """Numbers for labels that are strings."""
    found = {label for column in columns for label in column if isinstance(label, str)}
    return {label: i for i, label in enumerate(sorted(found))}
