"""Perplexity: of a model that knows nothing, beside the test loss, and its mean over other data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import fmean

import pytest
import torch

from dsgd.data import Text
from dsgd.gradients.plain import Plain
from dsgd.metrics import Perplexity, Snapshot
from dsgd.metrics.accuracy import Accuracy, evaluate
from dsgd.metrics.metric import Split
from dsgd.models import NeuralLm
from dsgd.run import Run
from dsgd.tasks import Task

OTHERS = (Text("names", 5, 60, 30), Text("code", 5, 60, 30))


@pytest.fixture
def trained(small: Callable[..., Run], snapshot_of: Callable[[Run], Snapshot]) -> Snapshot:
    return snapshot_of(small(task=Task(Text("prose", 5, 60, 30)), model=NeuralLm(3, 4), twins=(Plain(),)))


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_characters(trained: Snapshot) -> None:
    blank = trained.params.like(torch.zeros_like(trained.params.matrix))
    found = Perplexity(OTHERS)(replace(trained, params=blank))
    known = {name: value for name, value in found.items() if not name.endswith("centralized")}
    assert known == pytest.approx(dict.fromkeys(known, 96.0), rel=1e-12)
    assert len(known) == 8


def test_it_is_exp_of_the_test_loss(trained: Snapshot) -> None:
    found, losses = Perplexity(OTHERS)(trained), Accuracy()(trained)
    for whose, loss in (("mean_model", "test_loss_mean_model"), ("centralized", "centralized_test_loss")):
        assert found[f"perplexity_{whose}"] == pytest.approx(float(torch.tensor(losses[loss]).exp()), rel=1e-6)
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
    assert Perplexity()(trained).keys() == {f"perplexity_{w}" for w in ("mean_model", "replicas_mean", "centralized")}


def test_a_pace_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="every is -1; it must be at least 0 steps"):
        Perplexity(every=-1)
