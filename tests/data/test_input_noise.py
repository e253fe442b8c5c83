"""Noisy inputs: Gaussian, an example's own, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import Digits, InputNoise, NoData

CLEAN = Digits(test_size=797)


def noise(spec: InputNoise, split: str = "train") -> np.ndarray:
    found: np.ndarray = getattr(spec.load(), split).x - getattr(spec.source.load(), split).x
    return found


def test_both_splits_are_noisy_and_their_labels_are_not() -> None:
    clean, before = CLEAN.load(), CLEAN.load().train.x.copy()
    found = InputNoise(CLEAN, 0.3).load()
    for split in ("train", "test"):
        assert getattr(found, split).y is getattr(clean, split).y
        assert getattr(found, split).x.dtype == np.float32
        assert noise(InputNoise(CLEAN, 0.3), split).std() == pytest.approx(0.3, rel=0.01)
        assert noise(InputNoise(CLEAN, 0.3), split).mean() == pytest.approx(0, abs=0.005)
    np.testing.assert_array_equal(clean.train.x, before)
    assert (found.classes, found.sha256, found.criterion) == (10, clean.sha256, "cross_entropy")


def test_an_example_has_its_own_noise_whatever_else_is_there() -> None:
    all_of_them, some = noise(InputNoise(CLEAN)), noise(InputNoise(Digits(train_size=100, test_size=797)))
    np.testing.assert_array_equal(some, all_of_them[:100])
    assert np.abs(np.corrcoef(all_of_them[:20].reshape(20, -1)) - np.eye(20)).max() < 0.7
    test = noise(InputNoise(CLEAN), "test").reshape(797, -1)
    assert np.corrcoef(test[0], all_of_them[0].ravel())[0, 1] == pytest.approx(0, abs=0.5)


def test_it_scales_and_another_draw_is_another() -> None:
    np.testing.assert_allclose(noise(InputNoise(CLEAN, 0.6)), 2 * noise(InputNoise(CLEAN, 0.3)), atol=1e-6)
    assert np.corrcoef(noise(InputNoise(CLEAN, draw=1)).ravel(), noise(InputNoise(CLEAN)).ravel())[0, 1] < 0.02
    np.testing.assert_array_equal(InputNoise(CLEAN, 0.0).load().test.x, CLEAN.load().test.x)


def test_what_it_may_not_be() -> None:
    with pytest.raises(ValueError, match="std is -1; it must be at least 0 and finite"):
        InputNoise(CLEAN, -1)
    with pytest.raises(ValueError, match="draw is -1; it must be at least 0"):
        InputNoise(CLEAN, draw=-1)
    with pytest.raises(ValueError, match="the criterion of NoData is output; take data with inputs"):
        InputNoise(NoData()).load()
