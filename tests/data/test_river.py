"""Streams of river: what is in them, in which order, and what is asked for where the library is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from dsgd.backends.local import LocalBackend
from dsgd.data.river import RECORDED, STREAMS, SYNTHETIC, River
from dsgd.metrics import Accuracy
from dsgd.run import Run
from dsgd.tasks import Task

Make = Callable[..., Run]


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_is_standardised_and_numbered(stream: str) -> None:
    pytest.importorskip("river")
    found = River(stream, 300, 120).load()
    assert [len(found.train), len(found.test), found.train.x.dtype, found.train.y.dtype] == [
        300,
        120,
        "float32",
        "int64",
    ]
    assert np.abs(found.train.x.mean(axis=0)).max() < 1e-4
    assert set(found.train.x.std(axis=0).round(3)) <= {0.0, 1.0}
    assert set(found.train.y) | set(found.test.y) <= set(range(found.classes))
    assert np.isfinite(found.test.x).all()


@pytest.mark.parametrize("stream", ["sea_drift", "rbf_drift", "shuttle"])
def test_another_split_is_another_draw_and_the_same_one_the_same(stream: str) -> None:
    pytest.importorskip("river")
    one = River(stream, 200, 100)
    assert replace(one, split=1).load().sha256 != one.load().sha256
    assert River(stream, 200, 100).load().sha256 == one.load().sha256
    assert (one.alike == replace(one, split=1).alike) is (stream in SYNTHETIC)


def test_examples_stand_in_the_order_of_the_stream() -> None:
    """So that none is both trained and tested on."""
    datasets = pytest.importorskip("river.datasets")
    stream = list(datasets.Shuttle())[:500]
    found = River("shuttle", 300, 200).load()
    assert [*found.train.y, *found.test.y] == [int(label) for _, label in stream]
    raw = np.array([list(inputs.values()) for inputs, _ in stream], np.float64)
    scale = np.where(raw[:300].std(axis=0) > 0, raw[:300].std(axis=0), 1)
    expected = (raw - raw[:300].mean(axis=0)) / scale
    np.testing.assert_allclose(np.concatenate([found.train.x, found.test.x]), expected, rtol=1e-5, atol=1e-6)


def test_the_rule_of_sea_drift_changes() -> None:
    """A bound on the sum that is learnt on the first half errs as little within it, and more on the second."""
    pytest.importorskip("river")
    found = River("sea_drift", 8000, 8000).load()
    sums = found.train.x[:, :2].sum(axis=1)

    def errors(bound: float, sums: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
        return min(float(((sums < bound) == y).mean()), float(((sums < bound) != y).mean()))

    bound = min(np.linspace(-2, 2, 81), key=lambda bound: errors(bound, sums[:4000], found.train.y[:4000]))
    before = errors(bound, sums[4000:7000], found.train.y[4000:7000])
    after = errors(bound, found.test.x[1000:, :2].sum(axis=1), found.test.y[1000:])
    assert before < 0.03 < 0.06 < after


def test_it_is_learnt(small: Make) -> None:
    pytest.importorskip("river")
    row = (
        LocalBackend("cpu")
        .train(small(task=Task(River("waveform", 600, 300)), steps=200, metrics=(Accuracy(),)))
        .history[-1]
    )
    assert row["test_accuracy_mean_model"] > 0.7  # type: ignore[operator]  # a number; chance is a third


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="stream is see; allowed are bananas"):
        River("see")
    with pytest.raises(ValueError, match="test_size is 0; it must be at least 1"):
        River(test_size=0)
    with pytest.raises(ValueError, match="give 1,048,576 or fewer"):
        River(train_size=2**20)
    monkeypatch.setitem(sys.modules, "river", None)
    with pytest.raises(
        ImportError, match=r'task river needs the library river; install it: pip install "dsgd\[data\]"'
    ):
        River("sea", 10, 11).load()


def test_a_recorded_stream_has_an_end() -> None:
    pytest.importorskip("river")
    assert "phishing" in RECORDED
    with pytest.raises(
        ValueError, match=r"phishing has 1,250 examples and train_size \+ test_size is 2,000; take fewer"
    ):
        River("phishing", 1500, 500).load()
