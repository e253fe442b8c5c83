"""Perplexity: of a model that knows nothing, beside the test loss, and its mean over other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from dsgd.communicators import Local
from dsgd.data import DataSource, Digits, Text, Xor
from dsgd.gradients.plain import Plain
from dsgd.metrics import Perplexity, Snapshot
from dsgd.metrics.accuracy import Accuracy, evaluate
from dsgd.metrics.metric import Split
from dsgd.models import Linear, NeuralLm
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task

OTHERS = (Text("names", 5, 60, 30), Text("code", 5, 60, 30))


@pytest.fixture
def trained(small: Callable[..., Run], snapshot_of: Callable[[Run], Snapshot]) -> Snapshot:
    return snapshot_of(small(task=Task(Text("prose", 5, 60, 30)), model=NeuralLm(3, 4), twins=(Plain(),)))


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_characters(trained: Snapshot) -> None:
    blank = trained.params.like(torch.zeros_like(trained.params.matrix))
    found = Perplexity(OTHERS)(replace(trained, params=blank))
    known = {name: value for name, value in found.items() if not name.startswith("centralized")}
    assert known == pytest.approx(dict.fromkeys(known, 96.0), rel=1e-12)
    assert len(known) == 8


def test_it_is_exp_of_the_test_loss(trained: Snapshot) -> None:
    found, losses = Perplexity(OTHERS)(trained), Accuracy()(trained)
    pairs = {"perplexity_mean_model": "test_loss_mean_model", "centralized_perplexity": "centralized_test_loss"}
    for name, loss in pairs.items():
        assert found[name] == pytest.approx(float(torch.tensor(losses[loss]).exp()), rel=1e-6)
    own = evaluate(trained.network, trained.params, trained.test)[0].exp().mean()
    assert found["perplexity_replicas_mean"] == pytest.approx(float(own), rel=1e-12)


def test_zero_shot_is_the_mean_over_the_others_test_sets(trained: Snapshot) -> None:
    found = Perplexity(OTHERS)(trained)
    for k, other in enumerate(OTHERS):
        test = other.load().test
        split = Split(torch.from_numpy(test.x).double(), torch.from_numpy(test.y))
        loss = evaluate(trained.network, trained.params.like(trained.params.matrix.mean(dim=0, keepdim=True)), split)[0]
        assert found[f"perplexity_of_{k}_mean_model"] == pytest.approx(float(loss.exp()), rel=1e-12)
    both = fmean(float(found[f"perplexity_of_{k}_mean_model"]) for k in range(2))  # type: ignore[arg-type]  # numbers
    assert found["zero_shot_perplexity_mean_model"] == pytest.approx(both, rel=1e-12)
    alone = {"perplexity_mean_model", "perplexity_replicas_mean", "centralized_perplexity"}
    assert Perplexity()(trained).keys() == alone


def test_a_pace_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="every is -1; it must be at least 0 steps"):
        Perplexity(every=-1)


@pytest.mark.parametrize(
    ("task", "others", "sentence"),
    [
        (Digits(train_size=64), OTHERS, r"has inputs of shape \(5,\) and 96 classes, the task of shape \(1, 8, 8\)"),
        (Text("prose", 7, 60, 30), OTHERS, r"the task of shape \(7,\) and 96 classes; take data that are alike"),
        (Xor(4, 20, 20), (), "exp of a cross-entropy, and the task's loss is signed_squared_error"),
    ],
)
def test_what_it_does_not_fit_is_refused_before_the_run(
    small: Callable[..., Run], task: DataSource, others: tuple[DataSource, ...], sentence: str
) -> None:
    run = small(
        task=Task(task), model=NeuralLm() if isinstance(task, Text) else Linear(), metrics=(Perplexity(others),)
    )
    with pytest.raises(ValueError, match=sentence):
        Simulation(run, Local(run.n), torch.device("cpu"))
