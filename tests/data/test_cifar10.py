from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from dsgd.data import Cifar10, cifar10

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny CIFAR-10 of four images a file, red 255, green 0, blue the file's number."""
    target = tmp_path / "cifar-10-batches-bin"
    target.mkdir()
    monkeypatch.setenv("DSGD_DATA", str(tmp_path))
    monkeypatch.setattr(cifar10, "FILE_BYTES", 4 * cifar10.RECORD)
    for number, name in enumerate(cifar10.FILES):
        records = np.zeros((4, cifar10.RECORD), np.uint8)
        records[:, 0] = np.arange(4) + number
        records[:, 1:1025] = 255
        records[:, 2049:] = number
        (target / name).write_bytes(records.tobytes())
    return target


def test_reads_and_standardises(folder: Path) -> None:
    data = Cifar10().load()
    assert data.train.x.shape == (20, 3, 32, 32)
    assert data.test.x.shape == (4, 3, 32, 32)
    assert data.train.x.dtype == np.float32
    assert data.train.y.tolist() == [k + i for k in range(5) for i in range(4)]
    np.testing.assert_allclose(data.train.x[0, 0], (1 - 0.4914) / 0.2470, rtol=1e-6)
    np.testing.assert_allclose(data.train.x[0, 1], -0.4822 / 0.2435, rtol=1e-6)
    np.testing.assert_allclose(data.test.x[0, 2], (5 / 255 - 0.4465) / 0.2616, rtol=1e-6)


def test_train_size_and_hash(folder: Path) -> None:
    assert len(Cifar10(train_size=6).load().train) == 6
    assert Cifar10(train_size=6).load().sha256 == Cifar10().load().sha256


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSGD_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin is in none of .*: unpack cifar-10-binary\.tar\.gz"):
        Cifar10().load()


def test_wrong_size(folder: Path) -> None:
    path = folder / "data_batch_3.bin"
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match=f"{path} has 5 bytes, expected 12292: unpack"):
        Cifar10().load()


def test_wrong_label(folder: Path) -> None:
    path = folder / "test_batch.bin"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    with pytest.raises(ValueError, match=f"{path} has a label 255, expected labels from 0 to 9"):
        Cifar10().load()


def test_the_real_sizes() -> None:
    assert cifar10.FILE_BYTES == 30_730_000
    with pytest.raises(ValueError, match="train_size=50001"):
        Cifar10(train_size=50_001)
