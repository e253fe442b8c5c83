"""Places that are lost, slow, or other than the owner: replaced, waited for, or refused by name."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.backends.processes import ChildPlace
from dsgd.backends.rank import Hello, VersionError, hello
from dsgd.backends.recordings import recorded
from dsgd.backends.supervision import BackendError, Place, PlaceLost, Terms, supervise
from tests.backends.fleets import Keeping, Make, Seen, undisturbed
from topologies import Static, Topology


class Told:
    """A place of which only what it says of itself is known."""

    host = "127.0.0.1"

    def __init__(self, node: str, **versions: str) -> None:
        self.hello = Hello(1, node, {**hello().versions, **versions})
        self.ended = False

    def ask(self, method: str, *arguments: Any) -> Callable[[float], Any]:
        assert method == "hello"
        return lambda seconds: self.hello

    def end(self) -> None:
        self.ended = True


@pytest.mark.parametrize("what", ["dsgd's sources", "torch", "python", "numpy", "scipy", "networkx", "numba"])
def test_nodes_with_other_versions_than_the_owner_are_refused_and_named(small: Make, what: str) -> None:
    """Before anything is trained; and all places are ended."""
    places = [Told("first"), Told("second", **{what: "other"}), Told("third")]

    class Fleet:
        def places(self, count: int, least: int) -> list[Place]:
            return list(places)

    with pytest.raises(BackendError, match=rf"{what} differ: .* on .*, other on second; install the same on all nodes"):
        supervise(Fleet(), Terms(3), small(n=4))
    assert all(place.ended for place in places)


def test_a_task_for_another_version_is_not_computed(small: Make) -> None:
    other = Hello(1, "elsewhere", {**hello().versions, "torch": "1.0"})
    with pytest.raises(VersionError, match=r"torch differ: 1.0 on elsewhere"):
        recorded([small()], "cpu", 1, other)


def test_a_place_frozen_with_a_message_half_read_is_noticed_in_time() -> None:
    """What is sent is larger than any pipe holds."""
    child = ChildPlace()
    try:
        assert child.ask("hello")(60).pid == child.process.pid
        os.kill(child.process.pid or 0, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(PlaceLost, match=r"did not answer within 0.5 s"):
            child.ask("begin", bytes(10**8))(0.5)
        assert time.monotonic() - began < 5
    finally:
        child.end()


def test_places_do_not_hear_the_signals_of_their_owners_group() -> None:
    child = ChildPlace()
    try:
        child.ask("hello")(60)
        assert os.getpgid(child.process.pid or 0) != os.getpgid(0)
    finally:
        child.end()


def test_places_that_read_other_files_are_refused(small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name leads to another matrix where a place runs."""
    import numpy as np

    there, here = tmp_path / "there", tmp_path / "here"
    for folder, weight in ((there, 0.3), (here, 0.25)):
        folder.mkdir()
        ring = np.roll(np.eye(4), 1, axis=1)
        np.save(folder / "w.npy", (1 - 2 * weight) * np.eye(4) + weight * (ring + ring.T))
    monkeypatch.chdir(there)
    elsewhere = [ChildPlace() for _ in range(2)]
    monkeypatch.chdir(here)

    class Fleet:
        def places(self, count: int, least: int) -> list[Place]:
            return list(elsewhere)

    run = small(topology=Static(Topology("ring", 4, "w.npy")))
    with pytest.raises(BackendError, match=r"the data or the files of the run are others on 127.0.0.1 than here"):
        supervise(Fleet(), Terms(2, device="cpu"), run)


class Doomed:
    """A fleet of real processes, one of which is struck by a signal once the run has taken some steps.

    With `wake_after` it goes on so many seconds later.
    """

    def __init__(self, seen: Seen, strike: int, after: int, times: int = 1, wake_after: float | None = None) -> None:
        self.seen, self.strike, self.after, self.times, self.wake_after = seen, strike, after, times, wake_after
        self.random = random.Random(0)
        self.struck: list[int] = []

    def places(self, count: int, least: int) -> list[Place]:
        children = [ChildPlace() for _ in range(count)]
        if len(self.struck) < self.times:
            threading.Thread(target=self._strike, args=(self.random.choice(children),), daemon=True).start()
        return list(children)

    def _strike(self, child: ChildPlace) -> None:
        while self.seen.steps[-1] < self.after * (1 + len(self.struck)):
            time.sleep(0.002)
        self.struck.append(self.seen.steps[-1])
        os.kill(child.process.pid or 0, self.strike)
        if self.wake_after is not None:
            time.sleep(self.wake_after)
            os.kill(child.process.pid or 0, signal.SIGCONT)


@pytest.mark.parametrize("strike", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_lost_place_is_noticed_and_the_run_ends_with_the_undisturbed_numbers(small: Make, strike: int) -> None:
    run, seen = small(n=4, steps=600, measure_every=100, snapshot_every=200), Seen()
    fleet = Doomed(seen, strike, after=220)
    began = time.monotonic()
    result = supervise(fleet, Terms(2, device="cpu", timeout=3), run, (seen,), keeper=Keeping(50))
    assert time.monotonic() - began < 60
    ((event, details),) = seen.events
    assert fleet.struck
    assert event == "place_lost"
    assert details["step"] >= 200
    expected = undisturbed(run, 2)
    assert all(torch.equal(result.params[name], leaf) for name, leaf in expected.params.items())
    assert result.history == expected.history == seen.rows
    assert result.bytes_crossed == expected.bytes_crossed > 0
    assert [step for step, _ in seen.snapshots] == [0, 200, 400, 600]


def test_a_slow_place_is_waited_for_or_left_out_as_the_terms_say(small: Make) -> None:
    """Stopped for a second and a half: with patience the others mix without it, and say how often.

    At every eighth step all agree and wait for each other, whatever the patience: one stopped there is tried again.
    """
    run = small(n=4, steps=400, measure_every=400)
    for _ in range(6):
        seen = Seen()
        fleet = Doomed(seen, signal.SIGSTOP, after=50, wake_after=1.5)
        result = supervise(fleet, Terms(2, device="cpu", timeout=20, patience=0.1), run, (seen,))
        assert fleet.struck
        assert seen.events == []
        if result.dropped:
            break
    assert 0 < result.dropped < 100
    assert all(leaf.isfinite().all() for leaf in result.params.values())
    waiting = Doomed(Seen(), signal.SIGSTOP, after=50, wake_after=1.5)
    patient = supervise(waiting, Terms(2, device="cpu", timeout=20), run, (waiting.seen,))
    expected = undisturbed(run, 2)
    assert patient.dropped == 0
    assert all(torch.equal(patient.params[name], leaf) for name, leaf in expected.params.items())


def test_too_many_losses_end_the_run_with_a_sentence(small: Make) -> None:
    run, seen = small(n=4, steps=100_000, measure_every=100_000), Seen()
    fleet = Doomed(seen, signal.SIGKILL, after=20, times=9)
    with pytest.raises(BackendError, match=r"more than 1 losses are not made good"):
        supervise(fleet, Terms(2, device="cpu", timeout=5, restarts=1), run, (seen,))
    assert [details["restarts_left"] for _, details in seen.events] == [1, 0]
