"""Keyed streams: a draw depends on its key and on nothing else."""

from __future__ import annotations

import numpy as np
import torch

from dsgd.perturbations import Noise
from dsgd.randomness import generator, normal_rows, stream_key


def test_keys_are_fixed_numbers() -> None:
    assert stream_key(0, "batches", 3) == 1998120767038241193


def test_keys_do_not_run_together() -> None:
    keys = {stream_key(seed, purpose, step) for seed in range(5) for purpose in ("a", "b") for step in range(50)}
    assert len(keys) == 500
    assert stream_key(1, 23) != stream_key(12, 3)


def test_a_replicas_noise_is_the_same_whichever_rows_are_drawn_with_it() -> None:
    whole = normal_rows(torch.empty(4, 7), tuple((0, j) for j in range(4)), "noise", 5)
    part = normal_rows(torch.empty(2, 7), ((0, 3), (0, 1)), "noise", 5)
    assert torch.equal(part, whole[[3, 1]])


def test_coefficients_are_the_same_whichever_rows_are_drawn() -> None:
    whole = Noise(2, tuple((1, j) for j in range(4))).coefficients(5, "diversity")
    part = Noise(2, ((1, 1), (1, 3))).coefficients(5, "diversity")
    assert np.array_equal(part, whole[[1, 3]])


def test_steps_samples_and_purposes_are_independent_draws() -> None:
    like = torch.empty(1, 20_000, dtype=torch.float64)
    draws = [
        Noise(1, ((0, 0),)).normal(like, "a"),
        Noise(2, ((0, 0),)).normal(like, "a"),
        Noise(1, ((0, 0),)).normal(like, "a", 1),
        Noise(1, ((0, 0),)).normal(like, "b"),
    ]
    correlation = np.corrcoef(torch.cat(draws).numpy()) - np.eye(4)
    assert abs(correlation).max() < 0.03


def test_generators_of_one_key_agree() -> None:
    assert generator(0, "x").integers(1 << 40) == generator(0, "x").integers(1 << 40)
