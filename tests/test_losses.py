"""An own loss is what is minimised, measured and looked around in, and only where there are outputs to judge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import dsgd
from dsgd.config.checks import check_model
from dsgd.config.problems import ConfigError
from dsgd.data import NoData
from dsgd.gradients.sam import Sam
from dsgd.metrics import Accuracy, ClassAccuracy, Consensus, Curvature
from dsgd.models import Cnn, Mlp, Quadratic
from dsgd.run import Run
from dsgd.tasks import Task

Make = Callable[..., Run]


@dataclass(frozen=True)
class Scaled:
    """Cross-entropy times a factor."""

    factor: float = 1.0

    def __call__(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.factor * outputs.log_softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Mean:
    def __call__(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return outputs.mean()


def rough(run: Run) -> Run:
    return replace(run, loss=type("Rough", (Scaled,), {"smooth": False})())


@pytest.mark.parametrize("model", [Mlp((8,)), Mlp((8,), norm="layer"), Mlp((8,), norm="batch"), Cnn((2,))])
@pytest.mark.parametrize("gradient", [{}, {"gradient": Sam()}])
def test_cross_entropy_by_hand_is_cross_entropy_in_every_kernel(
    small: Make, model: Any, gradient: dict[str, Any]
) -> None:
    run = small(model=model, steps=5, **gradient)
    ours, theirs = dsgd.train(replace(run, loss=Scaled())), dsgd.train(run)
    for name, leaf in theirs.params.items():
        torch.testing.assert_close(ours.params[name], leaf, rtol=1e-9, atol=1e-12)


def test_what_is_measured_is_of_the_loss(small: Make) -> None:
    metrics = (Accuracy(), ClassAccuracy(), Curvature(examples=32, every=1))
    run = small(steps=1, metrics=metrics)
    (once, *_), (twice, *_) = (dsgd.train(replace(run, loss=Scaled(k))).history for k in (1.0, 2.0))
    for name in ("train_loss_mean_model", "test_loss_replicas_worst", "lambda_max", "hessian_trace"):
        assert twice[name] == pytest.approx(2 * once[name]), name
    assert twice["test_accuracy_mean_model"] == once["test_accuracy_mean_model"]
    assert twice["class_accuracies_mean_model"] == once["class_accuracies_mean_model"]


def test_a_rough_loss_makes_a_rough_run(small: Make) -> None:
    assert small().smooth
    assert replace(small(), loss=Scaled()).smooth
    assert not rough(small()).smooth


def test_a_loss_that_does_not_fit_is_refused_before_the_run(small: Make) -> None:
    with pytest.raises(
        ConfigError, match=r"^loss: Mean, which makes of outputs .* something of shape \(\); it must be"
    ):
        check_model(small(loss=Mean()))
    quadratic = small(model=Quadratic(4), task=Task(NoData()), batch_size="full", metrics=(Consensus(),), loss=Scaled())
    with pytest.raises(ConfigError, match=r"^loss: Scaled, but the model's output is itself the loss; leave loss out$"):
        check_model(quadratic)
