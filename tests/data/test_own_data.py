"""Data sets of torch's and Hugging Face's kind become arrays: what is in them, under what hash, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import dsgd
from dsgd.data import from_hugging_face, from_torch
from dsgd.fingerprint import key
from dsgd.tasks import Task

IMAGES = [(np.full((4, 4), value, np.uint8), label) for value, label in ((0, 0), (255, 2), (51, 1))]


class Pictures:
    """As torchvision's are: a length and items, and no end to iterating."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 4, 4), float(index % 5)), index % 2


class Columns(dict[str, Any]):
    """As a Hugging Face data set is: columns by name."""

    @property
    def column_names(self) -> list[str]:
        return list(self)


def test_images_are_numbers_from_0_to_1_channels_first() -> None:
    data = from_torch(IMAGES, IMAGES[:1]).load()
    assert data.train.x.shape == (3, 1, 4, 4)
    assert data.train.x[:, 0, 0, 0].tolist() == pytest.approx([0, 1, 0.2])
    assert (data.train.x.dtype, data.train.y.tolist(), data.classes) == (np.float32, [0, 2, 1], 3)
    colours = from_torch([(np.zeros((4, 5, 3), np.uint8), 0)], [(np.zeros((4, 5, 3), np.uint8), 1)]).load()
    assert colours.test.shape == (3, 4, 5)


def test_tensors_stay_as_they_are_and_are_trained_on() -> None:
    own = from_torch(Pictures(40), Pictures(10), classes=4)
    data = own.load()
    assert data.train.x[7].tolist() == torch.full((3, 4, 4), 2.0).tolist()
    assert (data.classes, len(data.train), len(data.test)) == (4, 40, 10)
    run = dsgd.Run(task=Task(own), steps=2, batch_size=4)
    assert dsgd.train(run).data_sha256 == own.sha256
    assert run.describe()["task"] == {
        "name": "Own",
        "of": "Pictures",
        "sha256": own.sha256,
        "partition": {"name": "iid"},
    }


def test_other_examples_have_another_hash() -> None:
    first, again = (from_torch(IMAGES, IMAGES[:1]) for _ in range(2))
    assert first == again
    assert first != from_torch(IMAGES, IMAGES, classes=3)


@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("other", [(np.full((4, 4), 7, np.uint8), 0), (np.zeros((4, 4), np.uint8), 1)])
def test_the_hash_is_of_inputs_and_labels_of_both_splits(split: int, other: Any) -> None:
    splits = [IMAGES, IMAGES]
    changed = [*splits[:split], [other, *IMAGES[1:]], *splits[split + 1 :]]
    first, second = from_torch(*splits, classes=3), from_torch(*changed, classes=3)
    assert first != second
    assert first.load().sha256 != second.load().sha256


def test_the_hash_is_of_how_many_classes_too() -> None:
    few, many = from_torch(IMAGES, IMAGES), from_torch(IMAGES, IMAGES, classes=5)
    assert few == from_torch(IMAGES, IMAGES, classes=3)
    assert few != many
    assert key(dsgd.Run(task=Task(few))) != key(dsgd.Run(task=Task(many)))


@pytest.mark.parametrize(
    ("train", "test", "classes", "message"),
    [
        ([], IMAGES, None, "^train has no examples; give at least one$"),
        (IMAGES, [(np.zeros(3), 0)], None, r"train have shape \(1, 4, 4\), those of test \(3,\); give alike ones"),
        (
            [(np.zeros(3), 0), (np.zeros(4), 0)],
            IMAGES,
            None,
            r"^train, example 1: the input has shape \(4,\), the first",
        ),
        ([("a", 0)], IMAGES, None, "^train, example 0: the input is str; it must be numbers: add a transform"),
        ([(np.array([np.nan]), 0)], IMAGES, None, "^train, example 0: the input has numbers that are not finite$"),
        (
            [(np.zeros((4, 5)), 0)],
            IMAGES,
            None,
            r"^train, example 0: the input has shape \(4, 5\); it must be \(features,\) or \(channels, "
            r"height, width\): add a channel, or flatten it$",
        ),
        (
            [(np.zeros((1, 2, 3, 4)), 0)],
            IMAGES,
            None,
            r"^train, example 0: the input has shape \(1, 2, 3, 4\); it must",
        ),
        ([(np.zeros(3), 0.5)], IMAGES, None, "^train, example 0: the label is 0.5; it must be the number of a class"),
        ([(np.zeros(3), -1)], IMAGES, None, "^train, example 0: the label is -1; it must be"),
        ([np.zeros(3)], IMAGES, None, r"^example 0 is ndarray; each must be a pair \(x, y\)$"),
        (IMAGES, IMAGES, 2, "^classes is 2, but there are labels up to 2; give at least 3$"),
    ],
)
def test_what_does_not_fit_is_named(train: Any, test: Any, classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_torch(train, test, classes)


def test_columns_are_images_or_features_and_strings_are_classes() -> None:
    table = {"height": [1.0, 2.0, 3.0], "weight": [4, 5, 6], "label": ["dog", "cat", "dog"]}
    splits = {"train": Columns(table), "validation": Columns({k: v[:1] for k, v in table.items()})}
    data = from_hugging_face(splits, ["height", "weight"], test="validation").load()
    assert data.train.x.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert (data.train.y.tolist(), data.test.y.tolist(), data.classes) == ([1, 0, 1], [1], 2)
    pictures = {name: {"image": [x for x, _ in IMAGES], "label": [y for _, y in IMAGES]} for name in ("train", "test")}
    assert from_hugging_face(pictures).load().train.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("given", "knobs", "message"),
    [
        ({"train": {"label": [0]}}, {}, "^there is no split 'test'; there are train$"),
        ({"train": {"x": [0], "label": [0]}, "test": {"x": [0]}}, {"x": "x"}, "^test has no column 'label'; it has x$"),
        ([1], {}, "^list has no splits; give a mapping of them, such as a DatasetDict$"),
    ],
)
def test_a_split_or_column_that_is_not_there_is_named(given: Any, knobs: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_hugging_face(given, **knobs)


def test_a_name_is_fetched_and_a_folder_read_by_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, asked = ModuleType("datasets"), []
    splits = {name: {"x": [0.5, 1.5], "label": [0, 1]} for name in ("train", "test")}
    for name in ("load_dataset", "load_from_disk"):
        monkeypatch.setattr(library, name, lambda of, name=name: asked.append((name, of)) or splits, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", library)
    assert from_hugging_face("owner/name", "x").of == "owner/name"
    (tmp_path / "dataset_dict.json").write_text("{}")
    assert from_hugging_face(tmp_path, "x").load().train.x.tolist() == [[0.5], [1.5]]
    assert asked == [("load_dataset", "owner/name"), ("load_from_disk", str(tmp_path))]


def test_without_the_library_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ModuleNotFoundError, match="reading mnist needs Hugging Face's datasets; pip install datasets, or"
    ):
        from_hugging_face("mnist")


def test_a_real_data_set_on_disk_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [x[None].tolist() for x, _ in IMAGES], "label": ["a", "b", "a"]}
    split = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict(train=split, test=split).save_to_disk(str(tmp_path / "saved"))
    data = from_hugging_face(tmp_path / "saved").load()
    assert (data.train.shape, data.train.y.tolist()) == ((1, 4, 4), [0, 1, 0])
