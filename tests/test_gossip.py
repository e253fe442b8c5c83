"""Gossip: what each kind makes of the replicas, how many rounds it takes, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from dsgd.communicators import Communicator, Local
from dsgd.data import NoData
from dsgd.gossip import GOSSIPS, Adaptive, Gossip, Once, Partial, Phases, Plan, Repeated, Until
from dsgd.learning_rates import Constant, Cosine, Multistep
from dsgd.loop import simulate
from dsgd.models import Mlp, Quadratic
from dsgd.packs import Pack, packs
from dsgd.run import Run
from dsgd.simulation import Simulation, World
from dsgd.state import STATISTICS, When
from dsgd.tasks import Task
from tests.post import everywhere
from tests.rows import near
from tests.test_quarantine import spoilt
from topologies import (
    MixingMatrix,
    OnePeerExponential,
    Periodic,
    RandomMatching,
    Schedule,
    Sparse,
    Static,
    Topology,
    isolated,
)

Make = Callable[..., Run]
CPU = torch.device("cpu")
TARGET = 1e-4  # of Tr Xi: a ring of small runs needs some rounds for it
EXAMPLES: dict[str, Gossip] = {
    "once": Once(),
    "adaptive": Adaptive(power=2.0, start=2, least=0.1),
    "partial": Partial(0.3),
    "repeated": Repeated(3),
    "until": Until(TARGET),
    "phases": Phases((Once(), Until(TARGET, most=4), Adaptive()), (5, 12)),
}
RING = Static(Topology("ring", 8))
D = 7


@dataclass(frozen=True)
class Halfway:
    """A user's own: half of what at most three rounds make of the replicas."""

    trace_xi: float | None = None

    def plan(self, at: When) -> Plan:
        return Plan(3, 0.5, self.trace_xi)


def flat(gossip: Gossip, topology: Schedule = RING, **parts: Any) -> Run:
    """A run in which nothing moves the replicas but gossip."""
    fields = {"batch_size": "full", "dtype": "float64", "steps": 1, **parts}
    return Run(task=Task(NoData()), model=Quadratic(D), topology=topology, gossip=gossip, **fields)


def replicas(n: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gossiped(run: Run, start: torch.Tensor, step: int = 0) -> tuple[torch.Tensor, float]:
    """What the run's gossip makes of the replicas at a step, and the rounds that it counts."""
    simulation = Simulation(run, Local(run.n), CPU)
    world = replace(simulation.start(), step=step)
    world = replace(world, ensemble=world.ensemble.at(world.ensemble.params.like(start)))
    before = start.clone()
    after = simulation.advance(world)
    assert torch.equal(start, before)
    return after.ensemble.params.matrix, after.bytes_sent / (run.topology(step).messages * D * 8)


def dense(w: MixingMatrix) -> torch.Tensor:
    return torch.from_numpy(w.toarray())


def trace_xi(matrix: torch.Tensor) -> float:
    return float((matrix - matrix.mean(dim=0)).square().sum() / len(matrix))


def advanced(run: Run, steps: int, place: Communicator | None = None) -> tuple[Simulation, World]:
    simulation = Simulation(run, place or Local(run.n), CPU)
    world = simulation.start()
    for _ in range(steps):
        world = simulation.advance(world)
    return simulation, world


def final(run: Run) -> torch.Tensor:
    return advanced(run, run.steps)[1].ensemble.params.matrix


def test_every_gossip_is_here() -> None:
    assert EXAMPLES.keys() == GOSSIPS.keys()


@pytest.mark.parametrize(
    ("gossip", "lr", "step", "gamma"),
    [
        (Adaptive(), 0.1, 0, 1 / 8),  # half the greatest learning rate, cubed
        (Adaptive(power=2.0), 0.1, 0, 1 / 4),
        (Adaptive(least=0.2), 0.1, 0, 0.8 / 8 + 0.2),
        (Adaptive(start=10), 0.1, 9, 1.0),
        (Adaptive(start=10), 0.1, 10, 1 / 8),
        (Adaptive(power=0.0), 0.1, 0, 1.0),
        (Adaptive(), 0.2, 0, 1.0),
        (Adaptive(), 0.0, 0, 0.0),
    ],
)
def test_adaptive_consensus_goes_by_the_learning_rate(gossip: Adaptive, lr: float, step: int, gamma: float) -> None:
    plan = gossip.plan(When(step, lr, 0.2, lr))
    assert plan.share == pytest.approx(gamma, abs=1e-15)
    assert replace(plan, share=1.0) == Plan()


def test_adaptive_consensus_keeps_a_share_of_the_replica_itself() -> None:
    """At step 6 of 8 a cosine stands at (1 + cos(3 pi / 4)) / 2 of its start."""
    run, p = flat(Adaptive(power=3.0, least=0.05), learning_rate=Cosine(0.3), steps=8), replicas()
    gamma = 0.95 * ((1 + math.cos(0.75 * math.pi)) / 2) ** 3 + 0.05
    found, rounds = gossiped(run, p, step=6)
    torch.testing.assert_close(found, (1 - gamma) * p + gamma * dense(RING(6)) @ p, rtol=1e-12, atol=1e-14)
    assert rounds == 1


@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt"])
@pytest.mark.parametrize(
    ("gossip", "learning_rate"),
    [
        (Adaptive(least=1.0), Cosine(0.2)),
        (Adaptive(least=0.3), Constant(0.1)),
        (Repeated(1), Cosine(0.2)),
        (Partial(1.0), Cosine(0.2)),
    ],
)
def test_gossip_that_changes_nothing_is_gossip_once(
    small: Make, algorithm: str, gossip: Gossip, learning_rate: Any
) -> None:
    once = small(algorithm=algorithm, learning_rate=learning_rate, gradient_noise=0.1)
    assert torch.equal(final(replace(once, gossip=gossip)), final(once))


def test_adaptive_consensus_lets_the_replicas_part_as_the_learning_rate_falls(small: Make) -> None:
    falls = Multistep(0.2, milestones=(0.25,), decay=0.3)
    adaptive, once = (final(small(gossip=g, learning_rate=falls)) for g in (Adaptive(), Once()))
    assert trace_xi(adaptive) > 2 * trace_xi(once)


def test_partial_is_gossip_with_a_lazier_w() -> None:
    p = replicas()
    found, rounds = gossiped(flat(Partial(0.3)), p)
    torch.testing.assert_close(found, (0.7 * torch.eye(8).double() + 0.3 * dense(RING(0))) @ p, rtol=1e-12, atol=1e-14)
    assert rounds == 1


@pytest.mark.parametrize("times", [2, 5])
def test_repeated_is_a_power_of_w(times: int) -> None:
    p = replicas()
    found, rounds = gossiped(flat(Repeated(times)), p)
    torch.testing.assert_close(found, torch.linalg.matrix_power(dense(RING(0)), times) @ p, rtol=1e-12, atol=1e-12)
    assert rounds == times


@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt"])
def test_repeated_on_a_graph_is_once_on_its_power(small: Make, algorithm: str) -> None:
    """Through whole runs, in each order: W^2 in place of W."""
    w = Topology("ring", 6).matrix().sparse()
    twice = small(n=6, algorithm=algorithm, gossip=Repeated(2))
    simulation = Simulation(replace(twice, gossip=Once()), Local(6), CPU)
    simulation._matrices[0] = Sparse(w @ w)
    world = simulation.start()
    for _ in range(twice.steps):
        world = simulation.advance(world)
    torch.testing.assert_close(final(twice), world.ensemble.params.matrix, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("topology", [RING, RandomMatching(Topology("complete", 8)), OnePeerExponential(8)], ids=repr)
def test_until_stops_after_the_first_round_that_reaches_the_target(topology: Schedule) -> None:
    p, w = replicas(), dense(topology(0))
    powers = [torch.linalg.matrix_power(w, k) @ p for k in range(40)]
    for k in (1, 2, 7):
        found, rounds = gossiped(flat(Until(trace_xi(powers[k]) * 1.0001), topology), p)
        reached = next(j for j in range(1, 40) if trace_xi(powers[j]) <= trace_xi(powers[k]) * 1.0001)
        assert rounds == reached
        torch.testing.assert_close(found, powers[reached], rtol=1e-12, atol=1e-12)


def test_until_makes_one_round_at_least_and_no_more_than_most() -> None:
    p, w = replicas(), dense(RING(0))
    near, one = gossiped(flat(Until(trace_xi(p))), p)
    torch.testing.assert_close(near, w @ p, rtol=1e-12, atol=1e-12)
    far, six = gossiped(flat(Until(1e-12, most=6)), p)
    torch.testing.assert_close(far, torch.linalg.matrix_power(w, 6) @ p, rtol=1e-12, atol=1e-12)
    assert (one, six) == (1, 6)


@pytest.mark.parametrize(
    ("schedule", "step"), [(RandomMatching(Topology("complete", 8)), 0), (OnePeerExponential(8), 2)], ids=repr
)
def test_until_makes_no_rounds_that_change_nothing(schedule: Schedule, step: int) -> None:
    """The second round of a matching finds all pairs equal; it is made and counted, and no third."""
    p, w = replicas(), dense(schedule(step))
    assert torch.equal(w @ w, w)
    found, rounds = gossiped(flat(Until(1e-12), schedule, steps=3), p, step)
    torch.testing.assert_close(found, w @ p, rtol=1e-12, atol=1e-14)
    assert rounds == 2


def test_until_goes_on_while_the_replicas_come_nearer_however_slowly() -> None:
    """Alone of all eigenvectors of a long ring, the smoothest one falls by the square of its eigenvalue a round."""
    n, ring = 64, Static(Topology("ring", 64))
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    p = torch.cos(angles)[:, None].expand(n, D).clone()
    squared = float((dense(ring(0)) @ p)[0, 0]) ** 2
    assert 0.99 < squared < 1 - 1e-4
    target = D / 2 * squared**29.5
    found, rounds = gossiped(flat(Until(target), ring), p)
    assert rounds == 30
    assert trace_xi(found) == pytest.approx(D / 2 * squared**30, rel=1e-9)


def test_until_stops_for_each_run_of_a_pack() -> None:
    """A matching after its second round, a ring where it has reached its target, in one pack."""
    p, stalls = replicas(), RandomMatching(Topology("complete", 8))
    w = dense(RING(0))
    target = trace_xi(torch.linalg.matrix_power(w, 7) @ p) * 1.0001
    runs = [flat(Until(target), topology) for topology in (RING, stalls, Static(Topology("complete", 8)))]
    assert packs(runs) == [[0, 1, 2]]
    pack = Pack(runs, CPU)
    start = pack.start()
    worlds = pack.advance(replace(start, ensemble=start.ensemble.at(start.ensemble.params.like(p.repeat(3, 1)))))
    expected = torch.cat([torch.linalg.matrix_power(w, 7) @ p, dense(stalls(0)) @ p, p.mean(dim=0).expand(8, -1)])
    torch.testing.assert_close(worlds.ensemble.params.matrix, expected, rtol=1e-12, atol=1e-12)
    messages = [run.topology(0).messages for run in runs]
    assert worlds.bytes_sent == tuple(k * m * D * 8 for k, m in zip((7, 2, 1), messages, strict=True))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"rounds": 0}, "rounds is 0; it must be at least 1$"),
        ({"share": -0.1}, r"share is -0.1; it must be in \[0, 1\]$"),
        ({"share": 1.1}, r"share is 1.1; it must be in \[0, 1\]$"),
        ({"share": math.nan}, r"share is nan; it must be in \[0, 1\]$"),
        ({"trace_xi": math.nan}, "trace_xi is nan; it must be greater than 0 and finite, or None$"),
        ({"trace_xi": 0.0}, "trace_xi is 0.0; it must be greater than 0 and finite, or None$"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(**knobs)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Adaptive(power=math.inf), "power is inf; it must be at least 0 and finite$"),
        (lambda: Until(math.inf), "trace_xi is inf; it must be greater than 0 and finite$"),
    ],
)
def test_knobs_without_end_are_refused(make: Callable[[], Gossip], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_until_rests_between_gossips() -> None:
    run = flat(Until(1e-6), Periodic(RING, 2), steps=2)
    simulation, p = Simulation(run, Local(8), CPU), replicas()
    world = simulation.start()
    world = replace(world, ensemble=world.ensemble.at(world.ensemble.params.like(p)))
    between = simulation.advance(world)
    assert torch.equal(between.ensemble.params.matrix, p)
    assert between.bytes_sent == 0
    after = simulation.advance(between)
    assert trace_xi(after.ensemble.params.matrix) <= 1e-6
    assert after.bytes_sent > 16 * D * 8


@pytest.mark.parametrize("target", [3e-3, 1e-4])
def test_under_control_the_replicas_of_a_run_are_as_near_as_asked(small: Make, target: float) -> None:
    run = small(n=8, algorithm="adapt_then_combine")
    free, held = (Simulation(replace(run, gossip=gossip), Local(8), CPU) for gossip in (Once(), Until(target)))
    farthest, of_free, of_held = 0.0, free.start(), held.start()
    for _ in range(15):
        of_free, of_held = free.advance(of_free), held.advance(of_held)
        assert trace_xi(of_held.ensemble.params.matrix) <= target * (1 + 1e-12)
        farthest = max(farthest, trace_xi(of_free.ensemble.params.matrix))
    assert farthest > target
    assert of_held.bytes_sent > of_free.bytes_sent


def test_in_phases_each_gossip_has_its_time() -> None:
    phases = Phases((Once(), Repeated(2), Adaptive(least=0.5)), (3, 5))
    rounds = [phases.plan(When(step, 0.0, 1.0)) for step in range(7)]
    assert rounds == [Plan()] * 3 + [Plan(2)] * 2 + [Plan(share=0.5)] * 2


@pytest.mark.parametrize(("target", "rounds"), [(None, 3), (1e9, 1)])
def test_a_share_of_several_rounds(target: float | None, rounds: int) -> None:
    p = replicas()
    found, made = gossiped(flat(Halfway(target)), p)
    expected = (p + torch.linalg.matrix_power(dense(RING(0)), rounds) @ p) / 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert made == rounds


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt"])
def test_every_gossip_learns_and_keeps_the_mean(small: Make, algorithm: str, name: str) -> None:
    from dsgd.metrics import Accuracy

    run = small(algorithm=algorithm, gossip=EXAMPLES[name], learning_rate=Cosine(0.1), steps=40, metrics=(Accuracy(),))
    history = simulate(Simulation(run, Local(4), CPU)).history
    assert history[-1]["train_loss_mean_model"] < 0.97 * history[0]["train_loss_mean_model"]  # type: ignore[operator]
    p = replicas()
    mean = gossiped(flat(EXAMPLES[name], steps=20, learning_rate=Cosine(0.1)), p, step=15)[0].mean(dim=0)
    torch.testing.assert_close(mean, p.mean(dim=0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt"])
def test_held_in_parts_the_numbers_are_the_same(small: Make, algorithm: str, name: str) -> None:
    run = small(
        n=5,
        algorithm=algorithm,
        gossip=EXAMPLES[name],
        learning_rate=Cosine(0.2),
        model=Mlp((8,), norm="batch"),
        steps=16,
        measure_every=1,
    )
    whole = simulate(Simulation(run, Local(5), CPU))
    for blocks in (((0, 1, 2, 3, 4),), ((0, 3), (1, 2, 4)), ((2,), (0, 4), (1, 3))):
        found = everywhere(blocks, lambda place: simulate(Simulation(run, place, CPU)))[0]
        for leaf, expected in whole.params.items():
            torch.testing.assert_close(found.params[leaf], expected, rtol=1e-10, atol=1e-12)
        for row, expected_row in zip(found.history, whole.history, strict=True):
            assert row == near(expected_row, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("target", [None, 1e-3])
@pytest.mark.parametrize("policy", ["mix", "local"])
def test_running_statistics_are_mixed_as_the_parameters_are(small: Make, policy: str, target: float | None) -> None:
    """Half of themselves, and as many rounds as the parameters took."""
    run = small(n=8, model=Mlp((8,), norm="batch"), batch_size=8, gossip=Halfway(target), running_statistics=policy)
    simulation, world = advanced(run, 3)
    before = world.bytes_sent
    after = simulation.advance(world)
    local = replace(run, running_statistics="local", gossip=Once())
    moved = Simulation(local, Local(8), CPU).advance(world).ensemble.buffers[STATISTICS]
    rounds = (after.bytes_sent - before) // simulation.bytes_of(run.topology(3))
    w = torch.linalg.matrix_power(dense(run.topology(3)), rounds)
    expected = (moved + w @ moved) / 2 if policy == "mix" else moved
    torch.testing.assert_close(after.ensemble.buffers[STATISTICS], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_quarantine_the_others_gossip_among_themselves(small: Make, name: str) -> None:
    """Also in parts, of which one holds only the lost replica; the target is that of those that are left."""
    run = small(topology=Static(Topology("ring", 5)), not_finite="quarantine", gossip=EXAMPLES[name])
    world = spoilt(advanced(run, 6)[1], 2)

    def six_more(place: Communicator) -> torch.Tensor:
        simulation = Simulation(run, place, CPU)
        here = simulation.part(world)
        for _ in range(6):
            here = simulation.advance(here)
        return here.ensemble.params.matrix

    whole, others = six_more(Local(5)), [0, 1, 3, 4]
    assert whole.isfinite().all(dim=1).tolist() == [True, True, False, True, True]
    if name in ("once", "adaptive", "partial", "repeated"):  # whose rounds do not depend on who counts
        alone, expected = Simulation(replace(run, not_finite="stop"), Local(5), CPU), spoilt(world, 2, 0.0)
        alone._matrices[0] = isolated(Topology("ring", 5).matrix(), [2])
        for _ in range(6):
            expected = alone.advance(expected)
        torch.testing.assert_close(whole[others], expected.ensemble.params.matrix[others], rtol=1e-10, atol=1e-12)
    blocks = ((0, 3), (2,), (1, 4))
    for block, part in zip(blocks, everywhere(blocks, six_more), strict=True):
        torch.testing.assert_close(part, whole[list(block)], rtol=1e-10, atol=1e-12, equal_nan=True)


def test_the_distance_under_control_is_of_those_that_count() -> None:
    p = replicas()
    p[3] = torch.nan
    others, w = [0, 1, 2, 4, 5, 6, 7], dense(isolated(RING(0), [3]))
    nine = (torch.linalg.matrix_power(w, 9) @ p.nan_to_num())[others]
    run = flat(Until(trace_xi(nine) * 1.0001), not_finite="quarantine")
    found, _ = gossiped(run, p.nan_to_num(nan=torch.inf))
    torch.testing.assert_close(found[others], nine, rtol=1e-12, atol=1e-12)
