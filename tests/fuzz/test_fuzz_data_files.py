"""Data files that lie: images, weights and recorded ensembles, cut, flipped, swollen, of other shapes and types."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from damage import DAMAGES, garbled
from guarded import answered
from safetensors.torch import save, save_file

import dsgd
from dsgd.data import cifar10, fashion_mnist
from dsgd.models import ResNet18

GARBLED = 150
IDX = {
    "train-images-idx3-ubyte": struct.pack(">IIII", 2051, 2, 28, 28) + bytes(2 * 784),
    "train-labels-idx1-ubyte": struct.pack(">II", 2049, 2) + bytes(2),
    "t10k-images-idx3-ubyte": struct.pack(">IIII", 2051, 1, 28, 28) + bytes(784),
    "t10k-labels-idx1-ubyte": struct.pack(">II", 2049, 1) + bytes(1),
}
NET = """
import dsgd
from dsgd.models import from_torch
from torch import nn

@dsgd.register("model", "net")
@from_torch
def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSGD_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    for name, content in IDX.items():
        (tmp_path / "data" / name).write_bytes(content)
    return tmp_path


def refused(*words: str, by: tuple[int, ...] = (2,)) -> str:
    answer = answered(["run", *words, "steps=1", "--out", "out"], seconds=20)
    assert answer.faults(allowed=by) == []
    assert Path("out").exists() == (answer.status != 2)
    return answer.err


@pytest.mark.parametrize("damage", DAMAGES)
def test_images_that_are_not_the_published_ones_are_refused(room: Path, damage: str) -> None:
    DAMAGES[damage](room / "data" / "train-images-idx3-ubyte")
    assert "train-images-idx3-ubyte" in refused("task=fashion_mnist")


def test_a_gzip_bomb_is_not_unpacked(room: Path) -> None:
    (room / "data" / "train-images-idx3-ubyte").unlink()
    with gzip.open(room / "data" / "train-images-idx3-ubyte.gz", "wb", compresslevel=9) as bomb:
        for _ in range(256):
            bomb.write(bytes(2**20))
    taken: list[int] = []
    read = fashion_mnist._decompressed

    def watched(path: Path, expected: str) -> bytes:
        content = read(path, expected)
        taken.append(len(content))
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion_mnist, "_decompressed", watched)
        assert "is not the published one" in refused("task=fashion_mnist")
    assert max(taken) <= fashion_mnist.MOST_BYTES


@pytest.mark.parametrize("damage", DAMAGES)
def test_records_of_another_size_or_label_are_refused(room: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(cifar10, "FILE_BYTES", 10 * cifar10.RECORD)
    for name in cifar10.FILES:
        (room / "data" / name).write_bytes((b"\x03" + bytes(cifar10.RECORD - 1)) * 10)
    DAMAGES[damage](room / "data" / "data_batch_1.bin")
    harmless = damage in ("flipped_middle", "flipped_last")  # a pixel is as good as another
    words = ["task=cifar10", "model=linear", "topology.n=2", "batch_size=2", "metrics=[]"]
    if not harmless:
        assert "data_batch_1.bin" in refused(*words)


def test_a_file_of_records_too_large_is_not_read(room: Path) -> None:
    for name in cifar10.FILES:
        with (room / "data" / name).open("wb") as file:
            file.truncate(2**40)
    assert "has 1099511627776 bytes" in refused("task=cifar10")


WEIGHTS = save({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)})
OTHERS: dict[str, dict[str, torch.Tensor]] = {
    "other_shape": {"1.weight": torch.zeros(64, 10), "1.bias": torch.zeros(10)},
    "other_rank": {"1.weight": torch.zeros(10, 64, 1), "1.bias": torch.zeros(10)},
    "missing": {"1.weight": torch.zeros(10, 64)},
    "more": {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10), "2.bias": torch.zeros(10)},
    "empty": {},
}
SMALL = ["task=digits", "task.train_size=40", "topology.n=2", "batch_size=2", "metrics=[]", "model=net"]


@pytest.mark.parametrize("damage", [*DAMAGES, *OTHERS])
def test_weights_that_are_not_the_model_s_are_refused(room: Path, own_parts: None, damage: str) -> None:
    (room / "net.py").write_text(NET)
    (room / "w.safetensors").write_bytes(WEIGHTS)
    if damage in OTHERS:
        save_file(OTHERS[damage], room / "w.safetensors")
    else:
        DAMAGES[damage](room / "w.safetensors")
    harmless = damage in ("flipped_middle", "flipped_last")
    said = refused(*SMALL, "model.weights=w.safetensors", "--plugin", "net.py", by=(0,) if harmless else (2,))
    assert harmless or "w.safetensors" in said


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "complex64", "float64"])
def test_weights_of_another_type_train_or_are_refused(room: Path, own_parts: None, dtype: str) -> None:
    (room / "net.py").write_text(NET)
    given = {"1.weight": torch.zeros(10, 64).to(getattr(torch, dtype)), "1.bias": torch.zeros(10)}
    save_file(given, room / "w.safetensors")
    by = (0,) if dtype in ("float16", "float64") else (2,)
    refused(*SMALL, "model.weights=w.safetensors", "--plugin", "net.py", by=by)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_end_in_a_sentence(room: Path, own_parts: None, value: float) -> None:
    (room / "net.py").write_text(NET)
    save_file({"1.weight": torch.full((10, 64), value), "1.bias": torch.zeros(10)}, room / "w.safetensors")
    refused(*SMALL, "model.weights=w.safetensors", "--plugin", "net.py", by=(1, 2))


def test_garbled_weights_are_the_model_s_or_refused(tmp_path: Path) -> None:
    path, model = tmp_path / "w.safetensors", torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    for number in range(GARBLED):
        path.write_bytes(garbled(WEIGHTS, Random(f"weights {number}")))
        said = "taken"
        try:
            dsgd.models.weights.load_weights(model, path)
        except ValueError as error:
            said = str(error)
        assert 0 < len(said) < 700, number


@pytest.mark.parametrize("path", ["/dev/zero", "fifo", "folder", "loop", "gone"])
def test_weights_that_are_no_file_are_refused(room: Path, path: str) -> None:
    os.mkfifo("fifo")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    model = ResNet18(weights=path).build
    with pytest.raises((ValueError, FileNotFoundError), match="weights file"):
        model((3, 32, 32), 10)
    refused("task=digits", "model=resnet18", f"model.weights={path}")


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (np.zeros((4, 3)), np.array([0, 1, -1, 0]), "label"),
        (np.zeros((4, 3)), np.array([0.5, 1, 1, 0]), "label"),
        (np.full((4, 3), np.nan), np.zeros(4, int), "finite"),
        (np.zeros((4, 3), object), np.zeros(4, int), "."),
        (np.zeros((4, 3), "U3"), np.zeros(4, int), "."),
        (np.zeros((4, 3), complex), np.zeros(4, int), "."),
        (np.zeros((0, 3)), np.zeros(0, int), "."),
        (np.zeros((4, 0)), np.zeros(4, int), "."),
        (np.zeros((4, 3)), np.array([2**62, 0, 0, 0]), "."),
    ],
)
def test_data_of_ones_own_that_are_none_are_refused(x: np.ndarray, y: np.ndarray, sentence: str) -> None:
    pairs = list(zip(x, y, strict=True))
    with pytest.raises(ValueError, match=sentence):
        dsgd.data.from_torch(pairs, pairs)
