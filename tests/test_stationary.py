"""The linear theory against the simulator: Tr Xi / (lr^2 sigma^2) is S(P) when only noise and gossip act."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest

import topologies
from dsgd.backends import train
from dsgd.data import NoData
from dsgd.learning_rates import Constant
from dsgd.metrics import Consensus
from dsgd.models import Quadratic
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

ORDERS = ("consensus", "adapt_then_combine")
QUICK = ("exponential", "complete")


def measured(graph: str, order: str, curvature: float = 0.0, lr: float = 0.1) -> float:
    """Tr Xi / (lr^2 sigma^2) averaged over 50 relaxation times after 10; d = 1,000, sigma = 1."""
    topology = Topology(graph, 16)
    relaxation = 1 / topologies.spectral_gap(topology.matrix())
    run = Run(
        task=Task(NoData()),
        model=Quadratic(1000, curvature),
        topology=Static(topology),
        algorithm=order,
        learning_rate=Constant(lr),
        batch_size="full",
        gradient_noise=1.0,
        steps=round(60 * relaxation),
        measure_every=max(1, round(relaxation / 4)),
        metrics=(Consensus(),),
    )
    rows = train(run, device="cpu").history
    return fmean(row["trace_xi"] for row in rows if row["step"] > 10 * relaxation) / lr**2  # type: ignore[misc]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "graph", [pytest.param(g, marks=() if g in QUICK else pytest.mark.slow) for g in topologies.GRAPHS]
)
def test_consensus_distance_is_that_of_the_linear_theory(graph: str, order: str) -> None:
    theory = topologies.stationary_consensus(Topology(graph, 16).matrix(), order)
    assert measured(graph, order) == pytest.approx(theory, rel=0.05, abs=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_curvature_damps_each_mode_as_the_lyapunov_equation_says(order: str) -> None:
    """With curvature h: 1 / (1 - (lam - lr h)^2) a mode for consensus, lam^2 / (1 - lam^2 (1 - lr h)^2) for ATC."""
    lr, h = 0.1, 2.0
    lam = np.linalg.eigvalsh(Topology("complete", 16).matrix().sparse().toarray())[:-1]
    modes = {
        "consensus": 1 / (1 - (lam - lr * h) ** 2),
        "adapt_then_combine": lam**2 / (1 - lam**2 * (1 - lr * h) ** 2),
    }[order]
    assert measured("complete", order, h, lr) == pytest.approx(modes.sum() / 16, rel=0.05, abs=1e-12)


def test_measured_orders_are_those_of_the_table() -> None:
    """Ring above grid above exponential above complete, at 16 nodes in the consensus order."""
    names = ("ring", "grid", "exponential", "complete")
    values = [topologies.stationary_consensus(Topology(name, 16).matrix(), "consensus") for name in names]
    assert values == pytest.approx([2.410, 1.494, 1.119, 0.9375], abs=6e-4)
