"""Held-out examples: the training examples parted in two, the test examples never seen."""

from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import Digits, HeldOut


def test_the_two_parts_are_the_training_examples_in_order() -> None:
    whole, found = Digits().load(), HeldOut(Digits(), 287).load()
    assert (len(found.train), len(found.test)) == (1150, 287)
    for name in ("x", "y"):
        both = np.concatenate([getattr(part, name) for part in (found.train, found.test)])
        np.testing.assert_array_equal(both, getattr(whole.train, name))
    assert (found.classes, found.sha256, found.criterion) == (10, whole.sha256, "cross_entropy")
    test = {x.tobytes() for x in whole.test.x}
    assert not any(x.tobytes() in test for x in found.test.x)


@pytest.mark.parametrize("size", [64, 100])
def test_some_must_be_left_to_train_on(size: int) -> None:
    with pytest.raises(ValueError, match=f"size is {size}; it must be 1 to 63, so that some are left"):
        HeldOut(Digits(train_size=64), size).load()


def test_none_held_out_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0; it must be at least 1"):
        HeldOut(Digits(), 0)
