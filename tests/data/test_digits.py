from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import Digits, digits
from dsgd.randomness import generator


def test_shapes_and_range() -> None:
    data = Digits().load()
    assert data.train.x.shape == (1437, 1, 8, 8)
    assert data.test.x.shape == (360, 1, 8, 8)
    assert data.train.shape == (1, 8, 8)
    assert len(data.train) == 1437
    assert data.train.x.dtype == np.float32
    assert data.train.y.dtype == np.int64
    assert (data.train.x.min(), data.train.x.max()) == (0, 1)
    assert (data.classes, data.criterion) == (10, "cross_entropy")


def test_centred_pixels_are_the_same_ones_around_zero() -> None:
    plain, centred = Digits(split=2).load(), Digits(split=2, centred=True).load()
    np.testing.assert_array_equal(centred.test.x, 2 * plain.test.x - 1)  # sixteenths: exact in float32
    np.testing.assert_array_equal(centred.test.y, plain.test.y)
    assert centred.sha256 == plain.sha256


def test_the_bytes_are_those_of_scikit_learn() -> None:
    assert Digits().load().sha256 == "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"


def test_both_ways_to_read_agree() -> None:
    np.testing.assert_array_equal(digits._table(), digits._table_by_import())


def test_split_is_stratified_and_disjoint() -> None:
    y = digits._pixels_and_labels()[1]
    train, test = digits.stratified_split(y, 360, generator(0, "digits", "split"))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(1797))
    share = np.bincount(y) * 360 / 1797
    assert np.abs(np.bincount(y[test]) - share).max() < 1


def test_split_is_the_same_for_ever() -> None:
    assert Digits().load().test.y[:20].tolist() == FIRST_TEST_LABELS


def test_train_size_keeps_the_first_examples() -> None:
    few, all_ = Digits(train_size=100).load(), Digits().load()
    np.testing.assert_array_equal(few.train.x, all_.train.x[:100])
    np.testing.assert_array_equal(few.test.y, all_.test.y)
    assert few.sha256 == all_.sha256


def test_test_size_is_another_stratified_split_of_the_same_digits() -> None:
    data = Digits(test_size=1285).load()
    assert (len(data.train), len(data.test)) == (512, 1285)
    assert data.sha256 == Digits().load().sha256
    share = np.bincount(digits._pixels_and_labels()[1]) * 1285 / 1797
    assert np.abs(np.bincount(data.test.y) - share).max() < 1
    both = np.concatenate([data.train.x, data.test.x]).reshape(1797, -1)
    np.testing.assert_array_equal(np.sort(both.sum(axis=1)), np.sort(digits._pixels_and_labels()[0].sum(axis=1) / 16))


def test_another_split_deals_the_same_digits_otherwise() -> None:
    one, other = Digits(test_size=1285).load(), Digits(test_size=1285, split=1).load()
    assert (len(other.train), other.sha256) == (512, one.sha256)
    assert not np.array_equal(one.train.x, other.train.x)
    kinds = [{image.tobytes() for image in data.train.x} for data in (one, other)]
    assert 100 < len(kinds[0] & kinds[1]) < 200  # 512 * 512 / 1797 = 146
    with pytest.raises(ValueError, match="split=-1 is not possible: give a number from 0 on"):
        Digits(split=-1)


@pytest.mark.parametrize("size", [0, 1797])
def test_impossible_test_size(size: int) -> None:
    with pytest.raises(ValueError, match=rf"test_size={size} is not possible: give 1 to 1796"):
        Digits(test_size=size)


def test_a_large_test_split_leaves_few_to_train_on() -> None:
    with pytest.raises(ValueError, match="train_size=513 is not possible: give 1 to 512"):
        Digits(train_size=513, test_size=1285)


def test_loading_again_is_free() -> None:
    assert Digits(50).load() is Digits(50).load()


@pytest.mark.parametrize("size", [0, -3, 1438])
def test_impossible_train_size(size: int) -> None:
    with pytest.raises(ValueError, match=rf"train_size={size} is not possible: give 1 to 1437"):
        Digits(train_size=size)


FIRST_TEST_LABELS = [6, 2, 5, 0, 0, 8, 2, 9, 6, 2, 6, 9, 0, 1, 5, 8, 6, 5, 6, 7]
