"""gloo as the carrier: between threads here, each with connections of its own."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch

from dsgd.communicators import Distributed, Local, MessageError, PeerLost
from dsgd.communicators.lines import LONGEST, Line
from dsgd.communicators.transports import Collective, Gloo, listening_store, store_at
from dsgd.trees import Layout, Params, Scaled
from topologies import Mean, OnePeerExponential, Topology

HOST = "127.0.0.1"
BLOCKS = ((0, 3), (1, 2, 4))
Work = Callable[[Gloo], Any]


def connected(works: list[Work], timeout: float = 20.0) -> list[Any]:
    """What each of the works returns, or the error it ends by, given a transport of its own."""
    store, port = listening_store(HOST, 20)

    def at(me: int) -> Any:
        own = store if me == 0 else store_at(HOST, port, 20)
        try:
            return works[me](Gloo(own, me, len(works), HOST, timeout))
        except PeerLost as lost:
            return lost

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(at, range(len(works))))


@pytest.mark.parametrize("shared", [False, True], ids=["sent", "in memory"])
def test_gloo_carries_what_w_asks_for(shared: bool) -> None:
    """Matrix after matrix, sums and gathers between them, as in one place."""
    layout = Layout(("w",), ((1000,),))
    p, u = (Params(torch.randn(5, 1000, dtype=torch.float64), layout) for _ in range(2))
    schedule = [Topology("ring", 5).matrix(), OnePeerExponential(5)(1), Mean(5), Topology("star", 5).matrix()] * 3

    def mixed(transport: Gloo) -> torch.Tensor:
        if not shared:
            transport.mates = {}
        place = Distributed(BLOCKS, transport)
        rows, plus = (each.like(each.matrix[list(place.rows)]) for each in (p, u))
        for w in schedule:
            rows = place.mix(rows, w, Scaled(plus, -0.1))
            place.gather(rows)
        return rows.matrix

    expected, local = p, Local(5)
    for w in schedule:
        expected = local.mix(expected, w, Scaled(u, -0.1))
    for block, found in zip(BLOCKS, connected([mixed, mixed]), strict=True):
        torch.testing.assert_close(found, expected.matrix[list(block)], rtol=1e-12, atol=1e-12)


def test_places_on_one_machine_know_that_they_can_read_each_other() -> None:
    import os

    assert connected([lambda place: place.mates] * 3) == [
        {k: os.getpid() for k in range(3) if k != me} for me in range(3)
    ]


def test_a_peer_that_is_silent_is_lost_after_the_timeout() -> None:
    def waits(place: Gloo) -> None:
        arrivals, _ = place.exchange(1, {}, {1: torch.zeros(8, dtype=torch.uint8)})
        arrivals[1](None)

    began = time.monotonic()
    lost, _ = connected([waits, lambda place: time.sleep(2.5)], timeout=1.0)
    assert isinstance(lost, PeerLost)
    assert "place 1 is gone, or did not answer place 0 within 1 s" in str(lost)
    assert time.monotonic() - began < 10


def test_a_wait_with_patience_comes_back_and_the_message_later() -> None:
    buffer = torch.zeros(8, dtype=torch.uint8)

    def waits(place: Gloo) -> tuple[bool, bool]:
        arrivals, _ = place.exchange(1, {}, {1: buffer})
        return arrivals[1](0.05), arrivals[1](None)

    def sends_late(place: Gloo) -> bool:
        time.sleep(0.5)
        _, departures = place.exchange(1, {0: torch.full((8,), 7, dtype=torch.uint8)}, {})
        return departures[0](None)

    assert connected([waits, sends_late]) == [(False, True), True]
    assert buffer.tolist() == [7] * 8


@pytest.fixture
def ends() -> Callable[[float], tuple[Line, Line]]:
    """Makes both ends of a line, of places 0 and 1."""

    def make(timeout: float = 20.0) -> tuple[Line, Line]:
        (from_1, to_0), (from_0, to_1) = os.pipe(), os.pipe()
        return Line(0, 1, from_1, to_1, timeout), Line(1, 0, from_0, to_0, timeout)

    return make


def test_a_letter_is_read_as_often_as_asked_also_after_later_ones(ends: Any) -> None:
    here, there = ends()
    for number, letter in ((1, b"late"), (2, b""), (5, b"due")):
        there.write(number, letter)
    assert here.read(5, None) == here.read(5, 0.0) == b"due"
    assert here.read(2, None) == b""
    with pytest.raises(MessageError, match="place 1 is at exchange 5, due was 4"):
        here.read(4, None)
    assert here.read(6, 0.01) is None
    there.write(7, b"")
    with pytest.raises(MessageError, match="place 1 is at exchange 7, due was 6"):
        here.read(6, None)


def test_at_the_death_of_the_other_end_a_line_is_lost_at_once(ends: Any) -> None:
    here, there = ends()
    there.write(1, b"last")
    del there
    assert here.read(1, None) == b"last"
    for lost in (lambda: here.read(2, None), lambda: here.write(2, b"")):
        with pytest.raises(PeerLost, match="place 1 is gone, or did not answer place 0 within 20 s"):
            lost()


def test_an_end_that_neither_writes_nor_reads_is_lost_after_the_timeout(ends: Any) -> None:
    here, _there = ends(0.2)
    with pytest.raises(PeerLost, match=r"within 0\.2 s"):
        here.read(1, None)

    def write_on() -> None:
        for number in range(1, 100):
            here.write(number, bytes(LONGEST))

    with pytest.raises(PeerLost, match=r"within 0\.2 s"):
        write_on()


def test_a_frozen_peer_is_lost_after_the_timeout_however_short_the_patience(ends: Any) -> None:
    here, _there = ends(0.3)
    began = time.monotonic()

    def read_on() -> None:
        for number in range(1, 1000):
            assert here.read(number, 0.02) is None

    with pytest.raises(PeerLost):
        read_on()
    assert 0.25 < time.monotonic() - began < 5


def test_two_that_write_more_than_their_pipes_hold_read_meanwhile(ends: Any) -> None:
    """Both ends write sixty letters of a page before either asks for one: what is read on the way is kept."""
    here, there = ends()

    def written(line: Line) -> list[bytes | None]:
        for number in range(1, 61):
            line.write(number, number.to_bytes(1, "big") * LONGEST)
        return [line.read(number, None) for number in range(1, 61)]

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(written, (here, there)):
            assert found == [number.to_bytes(1, "big") * LONGEST for number in range(1, 61)]


def test_a_timeout_of_months_can_be_waited_for(ends: Any) -> None:
    here, there = ends(3e7)
    there.write(1, b"here")
    assert here.read(1, None) == b"here"


def test_rooms_of_earlier_runs_are_let_go() -> None:
    """Means, mixes and gathers: afterwards no file is open that was not before."""
    p = Params(torch.randn(2, 50_000, dtype=torch.float64), Layout(("w",), ((50_000,),)))

    def mixed(transport: Gloo) -> None:
        place = Distributed(((0, 1), (2, 3), (4, 5)), transport)
        for w in [Topology("ring", 6).matrix(), Mean(6)] * 4:
            place.mix(p, w)

    if sys.platform == "linux":
        connected([mixed] * 3)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            connected([mixed] * 3)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_a_letter_of_another_length_is_refused() -> None:
    def gives(place: Gloo, count: int) -> Any:
        peer = 1 - place.me
        out, into = (torch.zeros(size, dtype=torch.uint8) for size in (count, 8))
        arrivals, _ = place.exchange(1, {peer: out}, {peer: into})
        try:
            return arrivals[peer](None)
        except MessageError as error:
            return str(error)

    found = connected([partial(gives, count=8), partial(gives, count=9)])
    assert found == ["a message of 9 bytes came in exchange 1, due were 8", True]


@pytest.mark.parametrize("there", [LONGEST, LONGEST + 1])
@pytest.mark.parametrize("back", [LONGEST, LONGEST + 1])
def test_messages_by_line_and_by_gloo_go_together(there: int, back: int) -> None:
    """Also where that to a place is short and that from it long."""

    def exchanged(place: Gloo) -> list[bool]:
        sizes, peer = (there, back), 1 - place.me
        into = torch.zeros(sizes[peer], dtype=torch.uint8)
        found = []
        for number in range(1, 40):
            out = torch.full((sizes[place.me],), number + place.me, dtype=torch.uint8)
            arrivals, departures = place.exchange(number, {peer: out}, {peer: into})
            found.append(arrivals[peer](None) and bool((into == number + peer).all()) and departures[peer](None))
        return found

    assert connected([exchanged, exchanged]) == [[True] * 39] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="what is open is read from /proc")
def test_the_ends_of_lines_are_closed_with_their_transport() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        connected([lambda place: None] * 3)
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.slow
def test_the_group_of_torch_distributed_carries_the_same() -> None:
    """The code that NCCL runs between GPUs, here over gloo in two processes."""
    from torch.multiprocessing import get_context

    store, port = listening_store(HOST, 20)
    spawn = get_context("spawn")
    with spawn.Pool(2) as pool:
        found = pool.starmap(_mixed_by_group, [(0, port), (1, port)])
    p = _start()
    expected = Local(5).mix(Local(5).mix(p, Topology("ring", 5).matrix()), Mean(5)).matrix
    del store
    for block, rows in zip(BLOCKS, found, strict=True):
        torch.testing.assert_close(torch.tensor(rows, dtype=torch.float64), expected[list(block)], rtol=1e-12, atol=0)


def _start() -> Params:
    return Params(torch.arange(50, dtype=torch.float64).view(5, 10), Layout(("w",), ((10,),)))


def _mixed_by_group(me: int, port: int) -> list[list[float]]:
    import torch.distributed as dist

    store = store_at(HOST, port, 20)
    dist.init_process_group("gloo", store=store, rank=me, world_size=2)
    place, p = Distributed(BLOCKS, Collective("cpu", store)), _start()
    rows = place.mix(p.like(p.matrix[list(place.rows)]), Topology("ring", 5).matrix())
    mixed: list[list[float]] = place.mix(rows, Mean(5)).matrix.tolist()
    dist.destroy_process_group()
    return mixed
