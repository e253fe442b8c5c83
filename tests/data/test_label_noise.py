"""Label noise: a keyed share of the training labels drawn anew, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import Digits, LabelNoise, NoData

CLEAN = Digits(test_size=797)


def labels(share: float, draw: int = 0) -> np.ndarray:
    return LabelNoise(CLEAN, share, draw).load().train.y


def test_only_training_labels_change() -> None:
    whole, before = CLEAN.load(), CLEAN.load().train.y.copy()
    found = LabelNoise(CLEAN, 1.0).load()
    assert found.train.x is whole.train.x
    assert found.test is whole.test
    assert (found.classes, found.sha256, found.criterion) == (10, whole.sha256, "cross_entropy")
    assert found.train.y.dtype == np.int64
    np.testing.assert_array_equal(whole.train.y, before)


def test_none_or_all_are_drawn_anew() -> None:
    clean = CLEAN.load().train.y
    np.testing.assert_array_equal(labels(0.0), clean)
    assert np.mean(labels(1.0) == clean) == pytest.approx(0.1, abs=0.03)  # chance, by 3 standard deviations
    assert np.bincount(labels(1.0), minlength=10) == pytest.approx(np.full(10, 100), abs=35)


def test_the_right_label_can_be_drawn_again() -> None:
    assert np.mean(labels(0.4) != CLEAN.load().train.y) == pytest.approx(0.36, abs=0.02)


def test_a_larger_share_changes_the_same_labels_and_others() -> None:
    clean, some, more = CLEAN.load().train.y, labels(0.2), labels(0.6)
    changed = some != clean
    np.testing.assert_array_equal(some[changed], more[changed])
    assert np.sum(more != clean) > 2 * np.sum(changed)


def test_another_draw_is_other_noise() -> None:
    changed = [labels(0.4, draw) != CLEAN.load().train.y for draw in (0, 1)]
    assert np.mean(changed[0] & changed[1]) == pytest.approx(0.36**2, abs=0.035)


def test_what_it_may_not_be() -> None:
    with pytest.raises(ValueError, match=r"share is 1.5; it must be in \[0, 1\]"):
        LabelNoise(CLEAN, 1.5)
    with pytest.raises(ValueError, match="draw is -1; it must be at least 0"):
        LabelNoise(CLEAN, draw=-1)
    with pytest.raises(ValueError, match="the criterion of NoData is output; take data with labels"):
        LabelNoise(NoData()).load()
