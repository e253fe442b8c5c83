"""The trace against closed forms, and against the dense Hessian where it is all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.func import hessian

from dsgd.data import Digits, NoData, Xor
from dsgd.gradients.plain import Plain
from dsgd.metrics import Features, GaussNewton, Snapshot
from dsgd.metrics.probe_loss import probe_losses
from dsgd.models import Linear, Model, Quadratic, SimBn, TwoLayer
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

Taken = Callable[[Run], Snapshot]
PAIR = Static(Topology("complete", 2))


def on_xor(model: Model) -> Run:
    return Run(Task(Xor(5, 12, 8)), model, PAIR, steps=3, batch_size=2, dtype="float64", twins=(Plain(),))


def test_of_a_linear_model_it_is_the_squared_length_of_the_inputs(snapshot_of: Taken) -> None:
    """(f - y)^2 with f = w x + c: 2 (|x|^2 + 1), and x has 5 signs."""
    found = GaussNewton()(snapshot_of(on_xor(Linear())))
    assert found == pytest.approx({"gauss_newton_trace": 12.0, "centralized_gauss_newton_trace": 12.0})


def test_under_cross_entropy_it_is_that_of_softmax_regression(snapshot_of: Taken) -> None:
    snapshot = snapshot_of(Run(Task(Digits(train_size=40)), Linear(), PAIR, steps=3, batch_size=4, dtype="float64"))
    p = snapshot.params.matrix.mean(dim=0)
    w, c = p[:640].view(10, 64), p[640:]
    x = snapshot.train.x.flatten(1)
    q = torch.softmax(x @ w.T + c, dim=1)
    expected = ((q * (1 - q)).sum(dim=1) * (x.square().sum(dim=1) + 1)).mean()
    assert GaussNewton()(snapshot)["gauss_newton_trace"] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("bias", [False, True])
def test_of_two_layers_of_relus_it_is_the_trace_of_the_hessian(snapshot_of: Taken, bias: bool) -> None:
    snapshot = snapshot_of(on_xor(TwoLayer(6, bias=bias, head_bias=False)))
    (loss,) = probe_losses(snapshot, 1000)[""].parts
    dense = hessian(loss)(probe_losses(snapshot, 1000)[""].point)
    assert GaussNewton()(snapshot)["gauss_newton_trace"] == pytest.approx(float(dense.trace()), rel=1e-9)


def test_it_is_no_trace_of_the_hessian_where_normalised_data_are_not_fitted(snapshot_of: Taken) -> None:
    snapshot = snapshot_of(on_xor(SimBn(6)))
    (loss,) = probe_losses(snapshot, 1000)[""].parts
    dense = hessian(loss)(probe_losses(snapshot, 1000)[""].point)
    assert GaussNewton()(snapshot)["gauss_newton_trace"] != pytest.approx(float(dense.trace()), rel=1e-3)


def test_an_output_that_is_itself_the_loss_has_none(snapshot_of: Taken) -> None:
    run = Run(Task(NoData()), Quadratic(4), PAIR, steps=2, batch_size="full")
    assert GaussNewton()(snapshot_of(run)) == {"gauss_newton_trace": None}


def test_impossible_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match="every is -1"):
        GaussNewton(every=-1)
    with pytest.raises(ValueError, match="examples is 0"):
        GaussNewton(0)


def features(snapshot: Snapshot, metric: Features, **leaves: list[list[float]] | list[float]) -> object:
    """The metric where both replicas have these leaves."""
    for name, numbers in leaves.items():
        leaf = snapshot.params[name.replace("_", ".")]
        leaf.copy_(torch.tensor(numbers).expand_as(leaf))
    return metric(snapshot)


def test_features_of_given_weights(snapshot_of: Taken) -> None:
    run = on_xor(SimBn(3))
    hidden: list[list[float]] = [[3, 0, 4, 0, 0], [0.5, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    found = features(
        snapshot_of(run), Features(2, 2), hidden_weight=hidden, gamma=[1.0, -2, 3], head_weight=[[1.0, 1, -1]]
    )
    assert found == pytest.approx({"head_l1": 6.0, "tail_share": (4 / 5 + 1) / 2})


def test_features_without_gamma_take_the_head_alone(snapshot_of: Taken) -> None:
    snapshot = snapshot_of(on_xor(TwoLayer(3, head_bias=False)))
    snapshot.params["3.weight"].fill_(-0.5)
    assert Features()(snapshot)["head_l1"] == pytest.approx(1.5)


def test_features_are_refused_where_there_are_no_two_layers(snapshot_of: Taken) -> None:
    with pytest.raises(ValueError, match="a model of two layers, and this has 1 matrices"):
        snapshot_of(replace(on_xor(Linear()), metrics=(Features(),)))
    with pytest.raises(ValueError, match="units is 0; it must be at least 1"):
        Features(units=0)
    for knobs, words in (
        ({"units": 4}, "units is 4; the model has 3"),
        ({"relevant": 6}, "relevant is 6; the model has 5"),
    ):
        with pytest.raises(ValueError, match=words):
            snapshot_of(replace(on_xor(TwoLayer(3)), metrics=(Features(**{"units": 3, **knobs}),)))
