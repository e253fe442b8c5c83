"""Curvature over the edge, against dense matrices, closed forms and the steps themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dsgd.curvature import largest_ritz_value
from dsgd.data import Digits, NoData, Regression, Shards
from dsgd.gradients.asam import Asam
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.learning_rates import Constant
from dsgd.metrics import Snapshot, StabilityEdge, Values
from dsgd.metrics.probe_loss import probe_losses, replica_losses
from dsgd.models import Mlp, Quadratic
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

Make = Callable[..., Run]
Snapshots = Callable[[Run], Snapshot]
METRICS = (StabilityEdge(every=0),)


def dense(loss: object) -> torch.Tensor:
    return loss.hessian.products(torch.eye(loss.hessian.d, dtype=torch.float64))  # type: ignore[attr-defined]


def number(values: Values, name: str) -> float:
    value = values[name]
    assert isinstance(value, float)
    return value


@pytest.fixture
def shards(small: Make) -> Callable[..., Run]:
    """Four replicas with 16 regression examples each."""

    def make(**fields: object) -> Run:
        task = Task(Regression(Digits(train_size=64)), Shards())
        defaults: dict[str, object] = {"task": task, "model": Mlp((3,)), "batch_size": "full", "metrics": METRICS}
        return small(**defaults | fields)

    return make


@pytest.mark.parametrize("spectrum", [[3.0, 2.9, -5.0, 0.1], [-1.0, -2.0, -2.0, -7.0], [0.0] * 4])
def test_as_many_steps_as_dimensions_find_the_largest_eigenvalue(spectrum: list[float]) -> None:
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    matrix = turn @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ turn.T
    value, residual = largest_ritz_value(lambda v: matrix @ v, torch.randn(4, dtype=torch.float64), 24)
    assert value == pytest.approx(max(spectrum), abs=1e-9)
    assert residual < 1e-6


def test_a_few_steps_find_a_value_within_its_residual() -> None:
    diagonal = torch.linspace(0, 1, 500, dtype=torch.float64).pow(3) * 7
    calls: list[int] = []

    def product(v: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return diagonal * v

    value, residual = largest_ritz_value(product, torch.randn(500, dtype=torch.float64), 20)
    assert len(calls) == 20
    assert 6.9 < value <= 7 + 1e-12
    assert float((diagonal - value).abs().min()) <= residual


def test_on_a_quadratic_all_is_known(small: Make, snapshot_of: Snapshots) -> None:
    curved = tuple(float(h) for h in range(1, 41))
    run = small(
        task=Task(NoData()),
        model=Quadratic(40, curved),
        batch_size="full",
        gradient_noise=1.0,
        learning_rate=Constant(0.02),
        metrics=METRICS,
    )
    found = StabilityEdge(products=40)(snapshot_of(run))
    assert number(found, "edge_lambda_max") == pytest.approx(40, rel=1e-9)
    assert number(found, "edge_predicted") == pytest.approx(2 / 3 / 0.02)
    assert number(found, "edge_ratio") == pytest.approx(1.2, rel=1e-9)
    assert number(found, "edge_ratio_replicas") == pytest.approx(1.2, rel=1e-9)
    assert number(StabilityEdge(products=160)(snapshot_of(run)), "edge_ensemble") == pytest.approx(0.8 + 1 / 3)


@pytest.mark.parametrize("gradient", [Usam(0.3), Sam(0.1), Ssam(0.3), Ssam(0.1, "sam")], ids=repr)
def test_edges_are_those_of_the_gradient_at_hand(
    shards: Callable[..., Run], snapshot_of: Snapshots, gradient: object
) -> None:
    snapshot = snapshot_of(shards(gradient=gradient, algorithm="adapt_then_combine"))
    found = StabilityEdge()(snapshot)
    loss = probe_losses(snapshot, 64)[""]
    g = loss.gradients(loss.point[None])[0]
    c = gradient.rho / (float(g.norm()) if "am(rho=0.1" in repr(gradient) else 1)  # type: ignore[attr-defined]
    uphill = loss.gradients((loss.point + c * g)[None])[0]
    gamma = float(g.norm() / uphill.norm()) if isinstance(gradient, Ssam) else 1.0
    edge = number(found, "edge_predicted")
    assert number(found, "edge_gradient") == pytest.approx(float(g.norm()))
    assert number(found, "edge_gamma") == pytest.approx(gamma)
    assert 0.1 * gamma * edge * (1 + c * edge) == pytest.approx(2)
    largest = float(torch.linalg.eigvalsh(dense(loss))[-1])
    assert number(found, "edge_lambda_max") == pytest.approx(largest, rel=1e-4)
    assert number(found, "edge_ratio") == pytest.approx(largest / edge, rel=1e-4)
    assert found["edge_ensemble"] is None


def test_each_replica_is_judged_by_its_own_shard(shards: Callable[..., Run], snapshot_of: Snapshots) -> None:
    snapshot = snapshot_of(shards())
    found = StabilityEdge()(snapshot)
    largest = [float(torch.linalg.eigvalsh(dense(loss))[-1]) for loss in replica_losses(snapshot, 64)]
    assert number(found, "edge_lambda_max_replicas") == pytest.approx(sum(largest) / 4, rel=1e-4)
    assert snapshot.shards is not None
    for loss, shard in zip(replica_losses(snapshot, 10), snapshot.shards, strict=True):
        torch.testing.assert_close(loss.split.x, snapshot.train.x[shard[:10]])


@pytest.mark.parametrize(
    ("order", "weights"),
    [("consensus", "auto"), ("adapt_then_combine", "lazy"), ("combine_then_adapt", "lazy"), ("centralized", "auto")],
)
def test_the_ensemble_s_number_is_of_the_step_itself(
    shards: Callable[..., Run], snapshot_of: Snapshots, order: str, weights: str
) -> None:
    """A dense Jacobian of the linear step of all replicas: its most negative eigenvalue."""
    run = shards(algorithm=order, topology=Static(Topology("ring", 4, weights)), learning_rate=Constant(0.5))
    snapshot = snapshot_of(run)
    found = number(StabilityEdge(products=60)(snapshot), "edge_ensemble")
    blocks = torch.block_diag(*map(dense, replica_losses(snapshot, 64)))
    d = snapshot.network.layout.d
    assert snapshot.rule is not None
    W = torch.kron(torch.as_tensor(snapshot.rule.mixing), torch.eye(d, dtype=torch.float64))
    one = torch.eye(4 * d, dtype=torch.float64)
    steps = {
        "consensus": W - 0.5 * blocks,
        "adapt_then_combine": W @ (one - 0.5 * blocks),
        "combine_then_adapt": (one - 0.5 * blocks) @ W,
        "centralized": W @ (one - 0.5 * blocks) @ W,  # of equal replicas
    }
    assert found == pytest.approx(-float(torch.linalg.eigvals(steps[order]).real.min()), rel=1e-3)


def test_replicas_that_are_equal_on_equal_data_are_their_mean(small: Make, snapshot_of: Snapshots) -> None:
    task = Task(Regression(Digits(train_size=64)))
    found = StabilityEdge()(snapshot_of(small(task=task, batch_size="full", metrics=METRICS)))
    for name in ("lambda_max", "residual", "gradient", "gamma", "predicted", "ratio"):
        assert found[f"edge_{name}_replicas"] == found[f"edge_{name}"]


def test_without_theory_there_is_curvature_and_no_edge(shards: Callable[..., Run], snapshot_of: Snapshots) -> None:
    found = StabilityEdge()(snapshot_of(shards(gradient=Asam())))
    assert number(found, "edge_lambda_max") > 0
    assert [found[f"edge_{name}"] for name in ("gamma", "predicted", "ratio", "ensemble")] == [None] * 4


def test_the_mean_model_alone(shards: Callable[..., Run], snapshot_of: Snapshots) -> None:
    found = StabilityEdge(replicas=False)(snapshot_of(shards()))
    assert not [name for name in found if "replicas" in name or "ensemble" in name]


def test_full_batches_of_all_shards_on_the_complete_graph_are_gradient_descent(small: Make) -> None:
    import dsgd

    task = Task(Regression(Digits(train_size=64)), Shards())
    one = small(n=1, graph="complete", task=replace(task, partition=Task().partition), batch_size="full", steps=5)
    many = small(graph="complete", task=task, batch_size="full", steps=5, algorithm="adapt_then_combine")
    expected = dsgd.train(one).params
    for name, leaf in dsgd.train(many).params.items():
        torch.testing.assert_close(leaf, expected[name].expand_as(leaf), rtol=1e-10, atol=1e-12)


def test_impossible_knobs() -> None:
    with pytest.raises(ValueError, match="products is 1; it must be at least 2"):
        StabilityEdge(products=1)
    with pytest.raises(ValueError, match="examples is 0"):
        StabilityEdge(examples=0)
