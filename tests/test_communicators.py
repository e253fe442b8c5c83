"""Replicas held in several places: the same numbers as in one, whatever crosses between them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.communicators import Distributed, Local, MessageError, PeerLost
from dsgd.communicators.messages import HEADER, Announced, Message
from dsgd.communicators.shared import Rooms
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.loop import simulate
from dsgd.metrics import Consensus
from dsgd.optimizers import Sgd
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.trees import Layout, Params, Scaled
from tests.post import Office, everywhere
from tests.rows import near
from topologies import (
    Dense,
    Identity,
    Mean,
    MixingMatrix,
    Permutation,
    RandomMatching,
    Schedule,
    Sparse,
    Static,
    Topology,
)

Make = Callable[..., Run]
Blocks = tuple[tuple[int, ...], ...]
CPU = torch.device("cpu")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is shared through /proc")
BLOCKS = {"two": ((0, 3), (1, 2, 4)), "three": ((0,), (2, 3), (1, 4)), "five": ((0,), (1,), (2,), (3,), (4,))}


def in_parts(run: Run, blocks: Blocks) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The run with its five replicas held in several places, each in a thread."""
    first, *others = everywhere(blocks, lambda place: simulate(Simulation(run, place, CPU)))
    assert all(other.history == [] and other.params == {} for other in others)
    return first.params, first.history


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_held_in_parts_the_numbers_are_the_same(small: Make, algorithm: str, name: str, blocks: Blocks) -> None:
    """Also those of the twins, which average over all replicas and not only over those beside which they are held."""
    run = small(
        n=5,
        algorithm=algorithm,
        gradient=GRADIENTS[name](),
        optimizer=Sgd(momentum=0.9),
        gradient_noise=0.1,
        twins=(WeightDiversity(), Plain()),
        metrics=(Consensus(),),
        steps=5,
        measure_every=1,
    )
    params, history = in_parts(run, blocks)
    whole = simulate(Simulation(run, Local(5), CPU))
    for leaf, expected in whole.params.items():
        torch.testing.assert_close(params[leaf], expected, rtol=1e-10, atol=1e-12)
    for row, expected_row in zip(history, whole.history, strict=True):
        assert row == near(expected_row, rel=1e-8, abs=1e-12)
    assert whole.history[-1]["centralized_distance"] > 0 or algorithm == "centralized"


KINDS: dict[str, MixingMatrix] = {
    "identity": Identity(5),
    "mean": Mean(5),
    "permutation": Permutation(np.array([1, 0, 2, 4, 3]), 0.25),
    "sparse": Topology("ring", 5).matrix(),
    "dense": Dense(np.arange(25.0).reshape(5, 5)),
}


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_mix_is_w_times_the_rows_plus_an_update(kind: str, added: bool) -> None:
    """One new matrix, contiguous; what was given is left as it was."""
    layout = Layout(("w",), ((7,),))
    p, u = (Params(torch.randn(5, 7, dtype=torch.float64), layout) for _ in range(2))
    before = p.matrix.clone(), u.matrix.clone()
    w = KINDS[kind]
    mixed = Local(5).mix(p, w, Scaled(u, -0.5) if added else None).matrix
    expected = torch.from_numpy(w.toarray()) @ p.matrix + (-0.5 * u.matrix if added else 0)
    torch.testing.assert_close(mixed, expected, rtol=1e-14, atol=1e-14)
    assert mixed.is_contiguous()
    assert torch.equal(p.matrix, before[0])
    assert torch.equal(u.matrix, before[1])
    assert mixed.data_ptr() != p.matrix.data_ptr() or (kind == "identity" and not added)


def test_the_matrices_in_torchs_form_are_kept_but_not_for_ever() -> None:
    from dsgd.communicators import KEPT

    local, p = Local(4), Params(torch.ones(4, 3), Layout(("w",), ((3,),)))
    ring = Static(Topology("ring", 4))
    for step in range(3):
        local.mix(p, ring(step))
    assert len(local._kept) == 1
    for _ in range(2 * KEPT):
        local.mix(p, Sparse(Topology("path", 4).matrix().sparse().copy()))
    assert len(local._kept) == KEPT


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
def test_mixed_in_parts_the_rows_are_those_of_one_place(blocks: Blocks, kind: str, added: bool) -> None:
    layout, w = Layout(("w",), ((7,),)), KINDS[kind]
    p, u = (Params(torch.randn(5, 7, dtype=torch.float64), layout) for _ in range(2))
    expected = Local(5).mix(p, w, Scaled(u, -0.5) if added else None).matrix

    def mixed(place: Distributed) -> torch.Tensor:
        mine, plus = (each.like(each.matrix[list(place.rows)]) for each in (p, u))
        return place.mix(mine, w, Scaled(plus, -0.5) if added else None).matrix

    for block, rows in zip(blocks, everywhere(blocks, mixed), strict=True):
        torch.testing.assert_close(rows, expected[list(block)], rtol=1e-13, atol=1e-13)


def test_only_the_rows_that_w_asks_for_cross_and_each_once() -> None:
    """On the ring of 16 in two halves each half needs two rows of the other's."""
    ring, blocks = Topology("ring", 16).matrix(), (tuple(range(8)), tuple(range(8, 16)))
    p = Params(torch.randn(8, 11), Layout(("w",), ((11,),)))

    def crossed(place: Distributed) -> int:
        for _ in range(3):
            place.mix(p, ring)
        place.gather(p)
        return place.bytes_crossed

    assert everywhere(blocks, crossed) == [3 * 2 * 11 * 4] * 2


FAULTS = {"delay": {"delay": 0.2}, "double": {"double": 0.5}, "both": {"delay": 0.2, "double": 0.3}}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("seed", range(3))
def test_late_and_doubled_messages_change_nothing(small: Make, faults: dict[str, float], seed: int) -> None:
    run, office = small(n=5), Office(3, faults=faults, seed=seed)
    undisturbed, _ = in_parts(run, BLOCKS["three"])
    first, *_ = everywhere(BLOCKS["three"], lambda place: simulate(Simulation(run, place, CPU)), office)
    assert office.happened
    assert all(torch.equal(first.params[name], leaf) for name, leaf in undisturbed.items())


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [("drop", PeerLost, "did not answer within"), ("spoil", MessageError, "due was exchange")],
)
def test_a_lost_message_is_missed_and_a_spoilt_header_seen(
    small: Make, fault: str, error: type[Exception], said: str
) -> None:
    office = Office(3, timeout=0.5, faults={fault: 0.05}, seed=1)
    with pytest.raises(error, match=said):
        everywhere(BLOCKS["three"], lambda place: simulate(Simulation(small(n=5), place, CPU)), office)


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=ON_LINUX)])
def test_a_message_that_comes_again_in_the_next_exchange_is_refused(shared: bool) -> None:
    """It has the size of the one due there, so only its number tells."""
    p, ring = Params(torch.randn(2, 6), Layout(("w",), ((6,),))), Topology("ring", 4).matrix()

    def mixed(place: Distributed, times: int) -> None:
        for _ in range(times):
            place.mix(p, ring)

    office = partial(Office, 2, faults={"repeat": 1.0}, shared=shared)
    everywhere(((0, 1), (2, 3)), partial(mixed, times=1), office())
    with pytest.raises(MessageError, match=r"sent exchange 1 from place ., .* due was exchange 2 from place ., "):
        everywhere(((0, 1), (2, 3)), partial(mixed, times=2), office())


def test_places_that_are_not_in_step_are_told_apart() -> None:
    """One that gathers while the other mixes is refused by the header, not mixed in."""
    p, ring = Params(torch.randn(2, 6), Layout(("w",), ((6,),))), Topology("ring", 4).matrix()

    def out_of_step(place: Distributed) -> None:
        if place.leads:
            place.gather(p)
        place.mix(p, ring)

    with pytest.raises((MessageError, PeerLost)):
        everywhere(((0, 1), (2, 3)), out_of_step, Office(2, timeout=0.5))


def test_whoever_is_late_is_left_out_and_its_weight_stays_with_who_should_have_heard_it() -> None:
    """Rows of W still sum to one, so that equal rows stay equal; the count says how often."""
    p = Params(torch.full((2, 6), 3.0, dtype=torch.float64), Layout(("w",), ((6,),)))
    ring, office = Topology("ring", 6).matrix(), Office(3, faults={"delay": 0.5}, seed=3)

    def mixed(place: Distributed) -> tuple[torch.Tensor, int]:
        rows = p
        for _ in range(6):
            rows = place.mix(rows, ring)
        return rows.matrix, place.dropped

    found = everywhere(((0, 1), (2, 3), (4, 5)), mixed, office, patience=0.002)
    assert sum(dropped for _, dropped in found) > 0
    for rows, _ in found:
        torch.testing.assert_close(rows, p.matrix, rtol=1e-14, atol=0)


def test_with_patience_enough_nobody_is_left_out(small: Make) -> None:
    run = small(n=5)
    found = everywhere(BLOCKS["three"], lambda place: simulate(Simulation(run, place, CPU)), patience=10.0)
    undisturbed, _ = in_parts(run, BLOCKS["three"])
    assert [result.dropped for result in found] == [0, 0, 0]
    assert all(torch.equal(found[0].params[name], leaf) for name, leaf in undisturbed.items())


@ON_LINUX
@pytest.mark.parametrize("name", ["plain", "weight_diversity"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("schedule", [Static(Topology("ring", 5)), RandomMatching(Topology("complete", 5))], ids=str)
def test_rows_handed_over_in_memory_are_those_that_would_be_sent(
    small: Make, schedule: Schedule, algorithm: str, name: str
) -> None:
    """To the last bit, also with another W at every step. Their bytes are counted alike, but for a mean over all.

    That goes to each place, not round a ring.
    """
    run = small(topology=schedule, algorithm=algorithm, gradient=GRADIENTS[name]())
    sent, handed = (
        everywhere(BLOCKS["three"], lambda place: simulate(Simulation(run, place, CPU)), Office(3, shared=shared))
        for shared in (False, True)
    )
    assert all(torch.equal(handed[0].params[leaf], expected) for leaf, expected in sent[0].params.items())
    by_mean = algorithm == "centralized"
    row = 8 * sum(leaf[0].numel() for leaf in handed[0].params.values())
    for one, other in zip(handed, sent, strict=True):
        assert one.bytes_crossed == (run.steps * 2 * row if by_mean else other.bytes_crossed)


@ON_LINUX
def test_rows_in_memory_wait_for_a_slow_reader() -> None:
    """One place is late by more than a step, again and again: what it reads is what was meant for that step."""
    layout, ring = Layout(("w",), ((50_000,),)), Topology("ring", 4).matrix()
    start = Params(torch.randn(4, 50_000, dtype=torch.float64), layout)

    def mixed(place: Distributed) -> torch.Tensor:
        rows = start.like(start.matrix[list(place.rows)])
        for step in range(40):
            if not place.leads and step % 7 == 3:
                time.sleep(0.01)
            place.begin(rows, ring)
            rows = place.mix(rows, ring)
        return rows.matrix

    blocks = ((0, 1), (2, 3))
    in_memory, sent = (everywhere(blocks, mixed, Office(2, shared=shared)) for shared in (True, False))
    assert all(torch.equal(one, other) for one, other in zip(in_memory, sent, strict=True))


@ON_LINUX
def test_a_mean_while_rows_are_on_their_way_leaves_them_as_they_were() -> None:
    layout, ring = Layout(("w",), ((500,),)), Topology("ring", 4).matrix()
    start = Params(torch.randn(4, 500, dtype=torch.float64), layout)
    expected = Local(4).mix(start, ring).matrix

    def mixed(place: Distributed) -> list[torch.Tensor]:
        rows, found = start.like(start.matrix[list(place.rows)]), []
        for step in range(20):
            place.begin(rows, ring)
            for _ in range(3):
                place.mix(rows * float(step), Mean(4))
            found.append(place.mix(rows, ring).matrix)
        return found

    for block, found in zip(((0, 1), (2, 3)), everywhere(((0, 1), (2, 3)), mixed, Office(2, shared=True)), strict=True):
        for rows in found:
            torch.testing.assert_close(rows, expected[list(block)], rtol=1e-13, atol=1e-13)


def test_a_room_of_a_process_that_is_gone_cannot_be_read() -> None:
    like = torch.zeros(1, 3)
    gone = Announced(Rooms(2**22 + 1), 1, like)
    message = Message(1, like, torch.zeros(1024, dtype=torch.uint8))
    message.mark(1, 0)
    gone.carried.copy_(message.carried[:HEADER])
    gone.check(1, 0)
    with pytest.raises(PeerLost, match="the rows of process 4194305 cannot be read"):
        _ = gone.rows
