"""Edges of stability against steps taken on quadratics, and the rules that runs give."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from dsgd.gossip import Partial
from dsgd.gradients import Gradient
from dsgd.gradients.asam import Asam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.optimizers import AdamW, Sgd
from dsgd.run import Run
from dsgd.stability import StepRule
from dsgd.step_rules import step_rule
from topologies import OnePeerExponential, Static, Topology

Make = Callable[..., Run]


def growth(rule: StepRule, curvature: float, mode: float = 1.0, *, adapt_first: bool = False) -> float:
    """The largest modulus of a step's eigenvalues along a direction of this curvature, from the update's own lines.

    Of (w, v) under v = momentum v + u, w = mode w - lr v or mode (w - lr v); gradients of length 1 fix what SAM does.
    """
    c = rule.uphill(1.0)

    def step(w: float, v: float) -> tuple[float, float]:
        gradient = curvature * w
        u = curvature * (w + c * gradient) + rule.weight_decay * w
        v = rule.momentum * v + u
        change = -rule.lr * (u + rule.momentum * v if rule.nesterov else v)
        return (mode * (w + change) if adapt_first else mode * w + change), v

    return float(np.abs(np.linalg.eigvals(np.array([step(1, 0), step(0, 1)]).T)).max())


def threshold(rule: StepRule, mode: float = 1.0) -> float:
    """Where growth passes 1, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(rule, middle, mode) < 1 else (low, middle)
    return low


ASCENTS = [{}, {"ascent": "gradient", "rho": 0.3}, {"ascent": "unit", "rho": 0.05}]


@pytest.mark.parametrize("ascent", ASCENTS, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("mode", [1.0, 0.25, -1 / 3])
def test_the_edge_is_where_a_step_on_a_quadratic_turns_unstable(
    ascent: dict[str, object], momentum: float, nesterov: bool, weight_decay: float, mode: float
) -> None:
    rule = StepRule(0.1, momentum, nesterov, weight_decay, mode=mode, **ascent)  # type: ignore[arg-type]
    assert rule.edge() == pytest.approx(threshold(rule, mode), rel=1e-9)
    assert rule.edge(mode=1.0) == pytest.approx(threshold(rule), rel=1e-9)


@pytest.mark.parametrize(
    ("lr", "rho", "edge"),
    [(0.1, 0.1, 10), (0.1, 0.2, 7.808), (0.1, 0.3, 6.667), (0.1, 1, 4), (0.05, 0.2, 11.861), (0.05, 1.0, 5.844)],
)
def test_usam_has_the_edges_of_the_paper(lr: float, rho: float, edge: float) -> None:
    assert StepRule(lr, rho=rho, ascent="gradient").edge() == pytest.approx(edge, abs=5e-4)
    assert StepRule(lr, rho=rho * 2, ascent="unit").edge(length=2.0) == pytest.approx(edge, abs=5e-4)


def test_an_edge_without_ascent_is_gradient_descents() -> None:
    assert StepRule(0.1, rho=1e-12, ascent="gradient").edge() == pytest.approx(20, rel=1e-9)
    assert StepRule(0.1, rescaled=True).edge(gamma=0.5) == 40


def test_normalised_ascent_has_no_stable_minimum() -> None:
    assert StepRule(0.1, rho=0.1, ascent="unit").edge(length=0.0) == 0
    assert math.isinf(StepRule(0.1, rho=0.1, ascent="unit").uphill(0.0))
    assert StepRule(0.1, weight_decay=30.0).edge() == 0


@pytest.mark.parametrize("mode", [1.0, 0.5, 0.0, -1 / 3])
def test_when_w_is_applied_to_the_gradient_too_the_mean_turns_unstable_first(mode: float) -> None:
    rule = StepRule(0.1)
    assert growth(rule, 20 * (1 - 1e-6), mode, adapt_first=True) < 1
    assert growth(rule, 20 * (1 + 1e-6), 1.0, adapt_first=True) > 1


RING = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]]) / 3


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (Plain(), ("none", 0.0, False)),
        (Sam(0.1), ("unit", 0.1, False)),
        (Usam(0.2), ("gradient", 0.2, False)),
        (Ssam(0.3), ("gradient", 0.3, True)),
        (Ssam(0.3, "sam"), ("unit", 0.3, True)),
    ],
)
def test_a_run_gives_its_rule(small: Make, gradient: Gradient, expected: tuple[str, float, bool]) -> None:
    rule = step_rule(small(gradient=gradient, optimizer=Sgd(0.5, True, 0.01)), 3)
    assert rule is not None
    assert (rule.ascent, rule.rho, rule.rescaled) == expected
    assert (rule.lr, rule.momentum, rule.nesterov, rule.weight_decay) == (0.1, 0.5, True, 0.01)
    assert rule.mode == pytest.approx(-1 / 3)
    assert rule.mixing is None


def test_the_least_eigenvalue_counts_where_the_gradient_is_not_mixed(small: Make) -> None:
    found = {order: step_rule(small(algorithm=order), 0) for order in ("consensus", "adapt_then_combine")}
    assert [round(rule.mode, 6) for rule in found.values() if rule] == [-0.333333, 1.0]
    rule = found["consensus"]
    assert rule is not None
    assert rule.mixing is not None
    np.testing.assert_allclose(rule.mixing, RING, atol=1e-15)


def test_the_joint_step_has_a_root_of_w_around_it(small: Make) -> None:
    around = {}
    for weights, order in (("auto", "consensus"), ("auto", "adapt_then_combine"), ("lazy", "adapt_then_combine")):
        rule = step_rule(small(topology=Static(Topology("ring", 4, weights)), algorithm=order), 0)
        assert rule is not None
        around[weights, order] = rule.around
    assert around["auto", "adapt_then_combine"] is None
    np.testing.assert_array_equal(around["auto", "consensus"], np.eye(4))
    root = around["lazy", "adapt_then_combine"]
    assert root is not None
    np.testing.assert_allclose(root @ root, (np.eye(4) + RING) / 2, atol=1e-12)


def test_no_rule_where_there_is_no_theory(small: Make) -> None:
    for fields in (
        {"gradient": Asam()},
        {"optimizer": AdamW()},
        {"gossip": Partial(0.5)},
        {"local_steps": 2},
        {"topology": OnePeerExponential(4)},
    ):
        assert step_rule(small(**fields), 0) is None, fields
    rule = step_rule(small(topology=OnePeerExponential(4), algorithm="adapt_then_combine"), 0)
    assert rule is not None
    assert (rule.mode, rule.mixing) == (1.0, None)
