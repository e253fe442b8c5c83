"""A replica that is no longer finite: the run stops at that step, or goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.communicators import Communicator, Local
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.loop import simulate
from dsgd.run import Run
from dsgd.simulation import Simulation, World
from tests.post import everywhere
from topologies import Mean, OnePeerExponential, Permutation, Static, Topology, isolated

Make = Callable[..., Run]
CPU = torch.device("cpu")


def spoilt(world: World, row: int, value: float = torch.nan) -> World:
    """The world with one number of a row spoilt."""
    params = world.ensemble.params
    matrix = params.matrix.clone()
    matrix[row, 3] = value
    return replace(world, ensemble=replace(world.ensemble, params=params.like(matrix)))


def continued(run: Run, place: Communicator, steps_before: int = 3) -> tuple[Simulation, World]:
    """A run of which replica 2 was spoilt after some steps, five steps later."""
    simulation = Simulation(run, place, CPU)
    world = simulation.start()
    for _ in range(steps_before):
        world = simulation.advance(world)
    if 2 in place.rows:
        world = spoilt(world, place.rows.index(2))
    for _ in range(5):
        world = simulation.advance(world)
    return simulation, world


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("graph", ["ring", "complete"])
def test_in_quarantine_the_others_stay_finite_and_go_on_alone(small: Make, graph: str, algorithm: str) -> None:
    run = small(
        topology=Static(Topology(graph, 5)), algorithm=algorithm, not_finite="quarantine", twins=(WeightDiversity(),)
    )
    simulation, world = continued(run, Local(5))
    assert simulation.finite(world) == [True, True, False, True, True]
    assert world.twins["average_direction_sam"].params.matrix.isfinite().all()
    snapshot = simulation.snapshot(world)
    assert snapshot is not None
    assert snapshot.params.rows == 4


def test_the_others_are_a_run_on_the_graph_without_it(small: Make) -> None:
    """Whoever heard the lost replica hears itself instead."""
    run = small(topology=Static(Topology("ring", 5)), not_finite="quarantine")
    simulation = Simulation(run, Local(5), CPU)
    world = simulation.start()
    for _ in range(3):
        world = simulation.advance(world)
    w = isolated(Topology("ring", 5).matrix(), [2])
    simulation._matrices[0] = w
    expected = simulation.advance(world).ensemble.params.matrix
    found = Simulation(run, Local(5), CPU).advance(spoilt(world, 2)).ensemble.params.matrix
    others = [0, 1, 3, 4]
    torch.testing.assert_close(found[others], expected[others], rtol=1e-14, atol=0)


def test_held_in_parts_the_quarantine_is_the_same(small: Make) -> None:
    run = small(topology=Static(Topology("ring", 5)), not_finite="quarantine", dtype="float64")
    _, whole = continued(run, Local(5))
    blocks = ((0, 3), (1, 2, 4))
    for block, (_, part) in zip(blocks, everywhere(blocks, lambda place: continued(run, place)), strict=True):
        expected = whole.ensemble.params.matrix[list(block)]
        torch.testing.assert_close(part.ensemble.params.matrix, expected, rtol=1e-11, atol=0, equal_nan=True)


def test_a_run_stops_before_it_mixes_what_is_not_finite(small: Make) -> None:
    """At the step after, and naming the one replica, not those that would have heard it."""
    simulation = Simulation(small(n=5), Local(5), CPU)
    world = simulation.advance(simulation.start())
    with pytest.raises(FloatingPointError, match=r"1 of 5 .* after 1 step, the first is replica 4"):
        simulation.advance(spoilt(world, 4))


def test_an_infinity_that_the_loss_hides_is_seen_soon(small: Make) -> None:
    """tanh of it is one; it shows once it is mixed or measured."""
    simulation = Simulation(small(n=5, steps=4, measure_every=2), Local(5), CPU)
    with pytest.raises(FloatingPointError, match=r"replicas are not finite after (1 step|2 steps),"):
        simulate(simulation, world=spoilt(simulation.start(), 4, torch.inf))


def test_a_quarantined_run_counts_them_and_ends_when_none_is_left(small: Make) -> None:
    run = small(n=5, not_finite="quarantine", steps=4, measure_every=2)
    simulation = Simulation(run, Local(5), CPU)
    result = simulate(simulation, world=spoilt(simulation.start(), 1))
    assert [row["quarantined"] for row in result.history] == [1, 1]
    lost = simulation.start()
    for row in range(5):
        lost = spoilt(lost, row)
    with pytest.raises(FloatingPointError, match="5 of 5 replicas"):
        simulate(simulation, world=lost)


def test_without_losses_a_quarantine_changes_no_number(small: Make) -> None:
    stop, quarantine = (
        simulate(Simulation(small(n=5, not_finite=way), Local(5), CPU)) for way in ("stop", "quarantine")
    )
    assert all(torch.equal(quarantine.params[name], leaf) for name, leaf in stop.params.items())


KINDS = {
    "ring": Topology("ring", 6).matrix(),
    "mean": Mean(6),
    "permutation": Permutation(np.array([1, 0, 3, 2, 5, 4]), 0.25),
    "one peer": OnePeerExponential(6)(1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_isolated_nodes_are_heard_by_none_and_rows_sum_to_one(kind: str) -> None:
    w, alone = KINDS[kind].toarray(), isolated(KINDS[kind], [1, 4]).toarray()
    np.testing.assert_allclose(alone.sum(axis=1), 1, rtol=0, atol=1e-15)
    others = [0, 2, 3, 5]
    assert not alone[np.ix_(others, [1, 4])].any()
    np.testing.assert_array_equal(alone[[1, 4]], np.eye(6)[[1, 4]])
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_array_equal(alone[np.ix_(others, others)][off], w[np.ix_(others, others)][off])
    if np.array_equal(w, w.T):
        np.testing.assert_allclose(alone, alone.T)
