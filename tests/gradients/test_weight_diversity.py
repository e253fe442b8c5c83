"""The paper's average-direction SAM: its gradient against the dense answer, and the three sources of Xi."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dsgd.backends import train
from dsgd.data import NoData
from dsgd.gradients.plain import Plain
from dsgd.gradients.sources import Replay, Stationary
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.models import Mlp, Quadratic
from dsgd.objectives import Batch, network
from dsgd.perturbations import Noise, cloud
from dsgd.run import Run
from dsgd.snapshots import snapshot_path, write_leaves
from dsgd.state import When
from dsgd.tasks import Task
from dsgd.trees import Layout, Params
from topologies import Static, Topology

LAYOUT = Layout(("w",), ((5,),))


def cubic(p: Params, form: torch.Tensor) -> tuple[torch.Tensor, Params]:
    """Loss and gradient of form(w, w, w) / 6 for a symmetric form."""
    w = p.matrix
    return torch.einsum("ijk,ri,rj,rk->r", form, w, w, w) / 6, p.like(torch.einsum("ijk,rj,rk->ri", form, w, w) / 2)


@pytest.fixture
def symmetric() -> torch.Tensor:
    form = torch.randn(5, 5, 5, dtype=torch.float64)
    axes = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return sum(form.permute(a) for a in axes) / 6  # type: ignore[return-value]


def objective(form: torch.Tensor) -> Any:
    found = SimpleNamespace(loss_and_grad=lambda p, weights=None: cubic(p, form))
    found.joint = lambda: found
    return found


def estimate(gradient: WeightDiversity, form: torch.Tensor, rows: torch.Tensor, p: Params) -> torch.Tensor:
    noise = Noise(0, tuple((0, j) for j in range(p.rows)), lambda: cloud(rows))
    return gradient.estimate(objective(form), p, noise, {}, When(0, 0.1)).grads.matrix


@pytest.mark.parametrize("rows_of_p", [1, 3])
def test_the_cubature_gives_the_exact_expectation_of_a_cubic(symmetric: torch.Tensor, rows_of_p: int) -> None:
    replicas = torch.randn(4, 5, dtype=torch.float64)
    p = Params(torch.randn(rows_of_p, 5, dtype=torch.float64), LAYOUT)
    deviations = replicas - replicas.mean(dim=0)
    xi = deviations.T @ deviations / 4
    exact = cubic(p, symmetric)[1].matrix + torch.einsum("ijk,jk->i", symmetric, xi) / 2
    torch.testing.assert_close(estimate(WeightDiversity(samples=0), symmetric, replicas, p), exact)


@pytest.mark.parametrize("rows_of_p", [1, 3])
def test_antithetic_samples_converge_to_it(symmetric: torch.Tensor, rows_of_p: int) -> None:
    replicas = torch.randn(4, 5, dtype=torch.float64)
    p = Params(torch.randn(1, 5, dtype=torch.float64).repeat(rows_of_p, 1), LAYOUT)
    exact = estimate(WeightDiversity(samples=0), symmetric, replicas, p)
    sampled = estimate(WeightDiversity(samples=3000), symmetric, replicas, p)
    spread = float((exact - cubic(p, symmetric)[1].matrix).norm())
    assert float((sampled - exact).norm()) < 0.15 * spread


def test_a_recorded_run_is_replayed_snapshot_by_snapshot(symmetric: torch.Tensor, tmp_path: Path) -> None:
    early, late = torch.randn(4, 5, dtype=torch.float64), 3 * torch.randn(4, 5, dtype=torch.float64)
    for step, rows in ((10, early), (20, late)):
        write_leaves(snapshot_path(tmp_path, step), {"w": rows})
    gradient = WeightDiversity(Replay(str(tmp_path)), samples=0)
    p = Params(torch.randn(1, 5, dtype=torch.float64), LAYOUT)
    noise = Noise(0, ((0, 0),))

    def at(step: int) -> torch.Tensor:
        return gradient.estimate(objective(symmetric), p, noise, {}, When(step, 0.1)).grads.matrix

    beside = WeightDiversity(samples=0)
    torch.testing.assert_close(at(9), cubic(p, symmetric)[1].matrix)
    torch.testing.assert_close(at(19), estimate(beside, symmetric, early, p))
    torch.testing.assert_close(at(25), estimate(beside, symmetric, late, p))
    assert len(Run(gradient=gradient).files()) == 2


def test_replaying_what_was_not_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no snapshots; record a run with snapshot_every set"):
        Replay(str(tmp_path))


def test_stationary_offsets_have_the_linear_theorys_covariance() -> None:
    """Xi = lr^2 Sigma_1 S(P) / B, with Sigma_1 the covariance of the per-example gradients."""
    torch.manual_seed(0)
    module = Mlp((3,)).build((4,), 2).double()
    net = network(module, "cross_entropy")
    row = torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])
    p = Params(row[None], net.layout)
    x, y = torch.randn(1, 12, 4, dtype=torch.float64), torch.randint(0, 2, (1, 12))
    each = Batch(net, x[0, :, None], y[0, :, None])
    per_example = each.loss_and_grad(p.like(row.repeat(12, 1)))[1].matrix
    s_of_ring = 2.4103
    expected = 0.2**2 * s_of_ring / 8 * torch.cov(per_example.T)
    gaussian = Stationary("ring", 16, batch_size=8).gaussian(Batch(net, x, y), p, Noise(0, ((0, 0),)), When(0, 0.2))
    assert gaussian is not None
    z = torch.randn(4000, 12, dtype=torch.float64)
    offsets = torch.cat([gaussian.offsets(one) for one in z.split(1)])
    found = offsets.T @ offsets / len(z)
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_the_cubature_is_refused_where_there_are_no_axes() -> None:
    with pytest.raises(ValueError, match="samples is 0, the cubature"):
        WeightDiversity(Stationary(), samples=0)


@pytest.mark.parametrize("order", ["consensus", "adapt_then_combine"])
def test_trajectories_on_a_quadratic_do_not_see_the_perturbation(order: str) -> None:
    """On a quadratic all three follow one path."""
    run = Run(
        task=Task(NoData()),
        model=Quadratic(30, curvature=(0.3, 1.0)),
        topology=Static(Topology("ring", 6)),
        algorithm=order,
        batch_size="full",
        gradient_noise=1.0,
        twins=(WeightDiversity(samples=0), Plain()),
        steps=50,
        dtype="float64",
    )
    end = train(run, device="cpu").history[-1]
    assert end["average_direction_sam_distance"] < 1e-12
    assert end["centralized_distance"] < 1e-12
    assert end["consensus_distance"] > 0.05


def test_the_twin_of_a_real_run_is_nearer_than_centralized_sgd(small: Callable[..., Run]) -> None:
    run = small(n=8, batch_size="full", gradient_noise=1.0, steps=40, twins=(WeightDiversity(samples=0), Plain()))
    end = train(run, device="cpu").history[-1]
    assert end["average_direction_sam_distance"] < 0.2 * end["centralized_distance"]


@pytest.mark.parametrize("samples", [0, 1, 3])
def test_while_the_replicas_are_equal_it_is_the_plain_gradient(small: Callable[..., Run], samples: int) -> None:
    """Also with many of them: W = J and full batches keep them together."""
    ends = [
        train(small("complete", gradient=gradient, batch_size="full", steps=3), device="cpu").params
        for gradient in (WeightDiversity(samples=samples), Plain())
    ]
    for name, leaf in ends[0].items():
        torch.testing.assert_close(leaf, ends[1][name], rtol=1e-12, atol=1e-13)


def test_noise_estimated_from_the_mini_batch_needs_two_examples() -> None:
    with pytest.raises(ValueError, match="batch_size is 1; it must be at least 2"):
        Run(gradient=WeightDiversity(Stationary()), batch_size=1)


def test_a_snapshot_written_again_is_read_again(symmetric: torch.Tensor, tmp_path: Path) -> None:
    import os

    p, noise = Params(torch.randn(1, 5, dtype=torch.float64), LAYOUT), Noise(0, ((0, 0),))
    found = []
    for seconds in (1, 2):
        write_leaves(snapshot_path(tmp_path, 0), {"w": torch.randn(4, 5, dtype=torch.float64)})
        os.utime(snapshot_path(tmp_path, 0), (seconds, seconds))
        gradient = WeightDiversity(Replay(str(tmp_path)), samples=0)
        found.append(gradient.estimate(objective(symmetric), p, noise, {}, When(0, 0.1)).grads.matrix)
    assert not torch.equal(*found)


def test_a_stationary_source_is_keyed_by_the_files_of_its_graph(tmp_path: Path) -> None:
    graph = tmp_path / "graph.edgelist"
    graph.write_text("0 1\n1 2\n2 0\n")
    source = Stationary(str(graph), 3)
    assert Run(gradient=WeightDiversity(source)).files() == (graph,)
