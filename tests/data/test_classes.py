"""Emerging classes: what is trained on has the first numbers, and the test examples have all."""

from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import Digits, EmergingClasses


def test_the_training_examples_are_those_of_the_base_classes_and_the_test_examples_all() -> None:
    whole, found = Digits().load(), EmergingClasses(Digits(), base=6, order=3).load()
    assert set(found.train.y) == set(range(6))
    assert set(found.test.y) == set(range(10))
    assert (found.classes, found.sha256, found.criterion) == (10, whole.sha256, "cross_entropy")
    np.testing.assert_array_equal(found.test.x, whole.test.x)
    number = dict(zip(whole.test.y, found.test.y, strict=True))
    np.testing.assert_array_equal(found.test.y, [number[y] for y in whole.test.y])
    assert len(set(number.values())) == 10
    kept = np.array([number[y] < 6 for y in whole.train.y])
    np.testing.assert_array_equal(found.train.x, whole.train.x[kept])
    np.testing.assert_array_equal(found.train.y, [number[y] for y in whole.train.y[kept]])


def test_the_order_is_keyed() -> None:
    orders = [EmergingClasses(Digits(), order=order).load().test.y for order in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


def test_some_classes_must_emerge() -> None:
    with pytest.raises(ValueError, match="base is 10; it must be 2 to 9, so that some classes emerge"):
        EmergingClasses(Digits(), base=10).load()
    with pytest.raises(ValueError, match="base is 1; it must be at least 2 classes"):
        EmergingClasses(Digits(), base=1)
    with pytest.raises(ValueError, match="order is -1; it must be at least 0"):
        EmergingClasses(Digits(), order=-1)
