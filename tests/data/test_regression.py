"""Labels as numbers to regress: inputs about their mean image, half the squared distance from one-hot targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dsgd.data import Digits, HeldOut, NoData, Regression
from dsgd.kernels import network
from dsgd.models import Linear


def test_inputs_are_about_the_training_mean_in_units_of_their_spread() -> None:
    source = Digits(train_size=500)
    found, plain = Regression(source).load(), source.load()
    centred = plain.train.x - plain.train.x.mean(axis=0)
    np.testing.assert_allclose(found.train.x, centred / centred.std(), atol=2e-6)
    np.testing.assert_allclose(found.test.x, (plain.test.x - plain.train.x.mean(axis=0)) / centred.std(), atol=2e-6)
    assert found.train.x.dtype == np.float32
    np.testing.assert_array_equal(found.train.y, plain.train.y)
    assert (found.classes, found.sha256, found.criterion) == (10, plain.sha256, "squared_error")


def test_inputs_may_stay_as_they_are_and_the_loss_survives_a_held_out_part() -> None:
    source = Digits(train_size=64)
    assert Regression(source, standardise=False).load().train.x is source.load().train.x
    assert HeldOut(Regression(source), 14).load().criterion == "squared_error"


def test_the_loss_is_half_the_squared_distance_from_the_centred_one_hot_label() -> None:
    net = network(Linear().build((5,), 4).double(), "squared_error")
    outputs, y = torch.randn(3, 2, 4, dtype=torch.float64), torch.tensor([[0, 3], [1, 1], [2, 0]])
    expected = [
        [sum((float(outputs[i, j, k]) - (float(k == y[i, j]) - 0.25)) ** 2 for k in range(4)) / 2 for j in range(2)]
        for i in range(3)
    ]
    torch.testing.assert_close(net.criterion_of(outputs, y), torch.tensor(expected, dtype=torch.float64))


def test_what_has_no_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="source NoData has no labels to regress"):
        Regression(NoData()).load()
