"""The two isotropic methods: the law of their perturbations, and what it does to a cubic's gradient."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.random_direction import RandomDirection
from dsgd.perturbations import Noise
from dsgd.state import When
from dsgd.trees import Layout, Params

D = 40


def offsets(gradient: AverageDirection | RandomDirection, samples: int) -> torch.Tensor:
    """The perturbations that a method really takes, seen by an objective that writes them down; shape (samples, d)."""
    seen: list[torch.Tensor] = []

    def loss_and_grad(p: Params) -> tuple[torch.Tensor, Params]:
        seen.append(p.matrix)
        return p.matrix.new_zeros(p.rows), p

    objective = SimpleNamespace(loss_and_grad=loss_and_grad)
    objective.joint = lambda: objective
    p = Params(torch.zeros(1, D, dtype=torch.float64), Layout(("w",), ((D,),)))
    found = gradient.estimate(objective, p, Noise(0, ((0, 0),)), {}, When(0, 0.1))  # type: ignore[arg-type]
    points = torch.cat(seen)
    torch.testing.assert_close(found.grads.matrix[0], points.mean(dim=0))
    assert len(points) == samples
    return points


def test_a_random_direction_has_length_rho_exactly() -> None:
    found = offsets(RandomDirection(rho=0.3, samples=500), 500)
    torch.testing.assert_close(found.norm(dim=1), torch.full((500,), 0.3, dtype=torch.float64))
    assert float(found.mean(dim=0).norm()) < 0.3 * 3 / 500**0.5


def test_an_average_direction_has_root_mean_square_length_rho() -> None:
    found = offsets(AverageDirection(rho=0.3, samples=4000), 4000)
    assert float(found.square().sum(dim=1).mean().sqrt()) == pytest.approx(0.3, rel=0.01)
    assert float(found.norm(dim=1).std()) > 0.01
    covariance = found.T @ found / 4000
    assert float((covariance - 0.3**2 / D * torch.eye(D)).norm() / (0.3**2 / D * D**0.5)) < 0.15


@pytest.mark.parametrize("kind", [AverageDirection, RandomDirection])
@pytest.mark.parametrize(("knobs", "message"), [({"rho": -1}, "rho is -1"), ({"samples": 0}, "samples is 0")])
def test_impossible_knobs_are_refused(kind: type, knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**knobs)
