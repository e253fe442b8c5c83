from __future__ import annotations

import gzip
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dsgd.data import FashionMnist, fashion_mnist, fetch

if TYPE_CHECKING:
    from pathlib import Path

HEADER_BYTES = {"images": 16, "labels": 8}


def idx_file(name: str, count: int) -> bytes:
    """A file of `count` examples as the package has them, all numbers equal to their position mod 10."""
    kind = "images" if "images" in name else "labels"
    size = 784 if kind == "images" else 1
    return bytes(HEADER_BYTES[kind]) + np.repeat(np.arange(count) % 10, size).astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny published Fashion-MNIST, half of it gzipped, in the subfolder of $DSGD_DATA."""
    target = tmp_path / "fashion-mnist"
    target.mkdir()
    monkeypatch.setenv("DSGD_DATA", str(tmp_path))
    for name in fashion_mnist.FILES:
        content = idx_file(name, 20 if name.startswith("train") else 10)
        monkeypatch.setitem(fashion_mnist.FILES, name, hashlib.sha256(content).hexdigest())
        if "images" in name:
            (target / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (target / name).write_bytes(content)
    return target


def test_reads_and_standardises(folder: Path) -> None:
    data = FashionMnist().load()
    assert data.train.x.shape == (20, 1, 28, 28)
    assert data.test.x.shape == (10, 1, 28, 28)
    assert data.train.x.dtype == np.float32
    np.testing.assert_array_equal(data.train.y, np.arange(20) % 10)
    np.testing.assert_allclose(data.train.x[3], (3 / 255 - 0.2860) / 0.3530, rtol=1e-6)


def test_train_size(folder: Path) -> None:
    assert len(FashionMnist(train_size=7).load().train) == 7
    assert len(FashionMnist(train_size=7).load().test) == 10
    with pytest.raises(ValueError, match="train_size=60001 is not possible: give 1 to 60000"):
        FashionMnist(train_size=60_001)


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSGD_DATA", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion_mnist, "INSTALLED", str(tmp_path / "installed"))
    with pytest.raises(FileNotFoundError, match="make data") as caught:
        FashionMnist().load()
    for looked in ("mine", "mine/fashion-mnist", "data", "data/fashion-mnist", "installed"):
        assert f"{tmp_path / looked}" in str(caught.value)
    assert str(caught.value).startswith(
        "The data file train-images-idx3-ubyte.gz or train-images-idx3-ubyte is in none"
    )


def test_a_missing_file_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fashion_mnist, "INSTALLED", str(tmp_path / "installed"))
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"The data file t10k-labels-idx1-ubyte\.gz or"):
        FashionMnist().load()


def test_other_bytes_are_refused(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    expected = fashion_mnist.FILES[path.name]
    path.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(
        ValueError, match=f"{path} is not the published one: its SHA-256 is {found}, expected {expected}"
    ):
        FashionMnist().load()


@pytest.mark.parametrize("content", [b"", b"no gzip", gzip.compress(b"x" * 999, mtime=0)[:-9]])
def test_broken_gzip(folder: Path, content: bytes) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is (a broken gzip file|not the published one)"):
        FashionMnist().load()


def test_the_published_files() -> None:
    try:
        data = FashionMnist(train_size=1000).load()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert data.train.x.shape == (1000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.test.y), np.full(10, 1000))
    assert data.train.y[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert abs(float(data.test.x.mean())) < 0.01


def test_fetch_says_why_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch.main([str(tmp_path / "target")]) == 1
    assert capsys.readouterr().err.startswith("apt-get is not on this machine")
    assert not (tmp_path / "target").exists()


def test_fetch_says_what_apt_get_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    false_apt = tmp_path / "apt-get"
    false_apt.write_text("#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    false_apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert fetch.main([str(tmp_path / "target")]) == 1
    assert "(E: Unable to locate package): run `apt-get update` first" in capsys.readouterr().err
