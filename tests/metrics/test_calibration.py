"""Scores, calibration and AUROC on tables small enough for a pencil."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from dsgd.metrics import calibration
from dsgd.metrics.calibration import Table
from dsgd.randomness import generator

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
Y = np.array([0, 1, 0])


def softmax(z: Table) -> Table:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_a_table_of_three() -> None:
    assert calibration.accuracy(P, Y) == 2 / 3
    assert calibration.nll(P, Y) == pytest.approx(-(math.log(0.7) + math.log(0.8) + math.log(0.3)) / 3, rel=1e-14)
    assert calibration.brier(P, Y) == pytest.approx((0.14 + 0.06 + 0.74) / 3, rel=1e-14)
    of_last = -2 * 0.3 * math.log(0.3) - 0.4 * math.log(0.4)
    assert calibration.entropy(P)[2] == pytest.approx(of_last, rel=1e-14)


def test_scores_are_scikit_learns() -> None:
    stream = generator(0, "test")
    p, y = softmax(3 * stream.standard_normal((200, 4))), stream.integers(4, size=200)
    assert calibration.nll(p, y) == pytest.approx(log_loss(y, p), rel=1e-12)
    two = softmax(stream.standard_normal((200, 2)))
    assert calibration.brier(two, y % 2) == pytest.approx(2 * brier_score_loss(y % 2, two[:, 1]), rel=1e-12)


def test_calibration_error_of_examples_alone_in_their_bins_and_in_one() -> None:
    assert calibration.ece(P, Y) == pytest.approx((0.3 + 0.2 + 0.4) / 3, rel=1e-12)
    assert calibration.ece(P, Y, bins=1) == pytest.approx(abs(2 / 3 - 1.9 / 3), rel=1e-12)


def test_a_bin_is_closed_above() -> None:
    p, y = np.array([[0.5, 0.5], [0.6, 0.4]]), np.array([0, 1])
    assert calibration.ece(p, y, bins=2) == pytest.approx((0.5 + 0.6) / 2, rel=1e-12)
    assert calibration.ece(np.array([[0.5, 0.5], [0.4, 0.6]]), np.array([0, 0]), bins=1) == pytest.approx(0.05)


def test_a_perfect_predictor_has_nothing_to_answer_for() -> None:
    right = np.eye(3)[Y]
    assert (calibration.nll(right, Y), calibration.brier(right, Y), calibration.ece(right, Y)) == (0, 0, 0)
    assert calibration.entropy(right).tolist() == [0, 0, 0]
    losses = [calibration.nll(softmax(right * sharpness), Y) for sharpness in (1, 10, 30)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-12


def test_a_probability_of_zero_costs_much_and_not_infinitely_much() -> None:
    assert calibration.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(300 * math.log(10))


def test_the_chance_that_a_positive_example_scores_higher() -> None:
    score, positive = np.array([1.0, 2.0, 3.0, 3.0]), np.array([False, True, False, True])
    assert calibration.auroc(score, positive) == 2.5 / 4
    assert calibration.auroc(np.ones(4), positive) == 0.5
    assert calibration.auroc(score, np.zeros(4, bool)) is None
    assert calibration.auroc(score, np.ones(4, bool)) is None
    stream = generator(1, "test")
    score, positive = stream.integers(20, size=500).astype(float), stream.random(500) < 0.1
    assert calibration.auroc(score, positive) == pytest.approx(roc_auc_score(positive, score), rel=1e-12)


def test_tempered_probabilities_are_those_of_divided_logits() -> None:
    z = generator(2, "test").standard_normal((50, 4))
    np.testing.assert_allclose(calibration.tempered(softmax(z), 2.5), softmax(z / 2.5), rtol=1e-12)
    np.testing.assert_allclose(calibration.tempered(P, 1.0), P, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_fitted_temperature_is_that_by_which_the_logits_were_scaled(temperature: float) -> None:
    stream = generator(3, "test")
    z = stream.standard_normal((40_000, 5))
    y = (softmax(z / temperature).cumsum(axis=1) < stream.random((40_000, 1))).sum(axis=1)
    assert calibration.fitted_temperature(softmax(z), y) == pytest.approx(temperature, rel=0.02)


def test_it_is_where_the_nll_is_least() -> None:
    stream = generator(4, "test")
    p, y = softmax(2 * stream.standard_normal((300, 3))), stream.integers(3, size=300)
    p[:250] = softmax(np.log(p[:250]) + 2 * np.eye(3)[y[:250]])
    best = calibration.fitted_temperature(p, y)
    losses = [calibration.nll(calibration.tempered(p, best * factor), y) for factor in (0.99, 1.0, 1.01)]
    assert losses[1] == min(losses)
    assert 0.06 < best < 19


def test_where_all_are_right_or_labels_are_noise_it_ends_at_its_bounds() -> None:
    assert calibration.fitted_temperature(P[:2], Y[:2]) == pytest.approx(0.05, rel=1e-3)
    noise = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert calibration.fitted_temperature(noise, np.array([0, 1])) == pytest.approx(20, rel=1e-3)


def test_members_that_agree_share_no_information_and_two_that_differ_a_bit() -> None:
    np.testing.assert_allclose(calibration.mutual_information(P, calibration.entropy(P)), 0, atol=1e-15)
    halves = np.array([[0.5, 0.5]])
    np.testing.assert_allclose(calibration.mutual_information(halves, np.zeros(1)), math.log(2))
    assert calibration.mutual_information(P, calibration.entropy(P) + 1e-16).min() == 0
