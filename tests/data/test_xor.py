from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dsgd.data import Xor


def test_the_label_is_the_product_of_the_first_two_signs() -> None:
    data = Xor(7, 50, 60).load()
    for part, size in ((data.train, 50), (data.test, 60)):
        assert part.x.shape == (size, 7)
        assert set(np.unique(part.x)) == {-1.0, 1.0}
        assert (2 * part.y - 1 == part.x[:, 0] * part.x[:, 1]).all()
    assert (data.classes, data.outputs, data.criterion) == (2, 1, "signed_squared_error")
    assert [str(array.dtype) for array in (part.x, part.y)] == ["float32", "int64"]


def test_signs_are_even_and_independent() -> None:
    x = Xor(6, 1, 40_000).load().test.x
    assert np.abs(x.T @ x / len(x) - np.eye(6)).max() < 0.03
    assert np.abs(x.mean(axis=0)).max() < 0.03


def test_each_split_is_a_draw_of_its_own() -> None:
    one, other = Xor(20), Xor(20, split=1)
    assert one.load() is one.load()
    assert one.load().sha256 != other.load().sha256
    assert not np.array_equal(one.load().test.x, other.load().test.x)
    assert other.alike == one
    assert replace(one, test_size=10).load().train.x.tobytes() == one.load().train.x.tobytes()


@pytest.mark.parametrize("split", range(8))
def test_crossed_inputs_are_all_signs_of_the_first_two_times_one_set(split: int) -> None:
    """Condition 1: the differences within the set span everything."""
    x = Xor(8, 28, crossed=True, split=split).load().train.x
    quarters = x.reshape(4, 7, 8)
    assert (quarters[:, :, 2:] == quarters[:1, :, 2:]).all()
    assert {tuple(pair) for pair in quarters[:, 0, :2]} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    assert (quarters[:, :, :2] == quarters[:, :1, :2]).all()
    assert np.linalg.matrix_rank(quarters[0, 1:, 2:] - quarters[0, 0, 2:]) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Xor(1), "dimension=1 is not possible: give at least 2"),
        (lambda: Xor(train_size=0), "train_size=0 is not possible"),
        (lambda: Xor(test_size=0), "test_size=0 is not possible"),
        (lambda: Xor(split=-1), "split=-1 is not possible"),
        (lambda: Xor(8, 30, crossed=True), "a multiple of 4 that is at least 28"),
        (lambda: Xor(8, 24, crossed=True), "a multiple of 4 that is at least 28"),
    ],
)
def test_impossible_sizes_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
