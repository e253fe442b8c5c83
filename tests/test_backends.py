"""Every backend gives the local one's numbers: for each algorithm, schedule and gradient, in one to four places."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends.local import LocalBackend
from dsgd.backends.processes import ChildPlace, ProcessesBackend
from dsgd.backends.rank import Hello, VersionError, hello
from dsgd.backends.recordings import recorded
from dsgd.backends.supervision import BackendError, Place, PlaceLost, Terms, supervise
from dsgd.gossip import Adaptive, Repeated, Until
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.tram import Tram
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.learning_rates import Cosine
from dsgd.loop import Result, Stopped
from dsgd.metrics import Accuracy, Consensus, Gauges, Snapshot, Values
from dsgd.models import Mlp
from dsgd.optimizers import AdamW, Lamb, Sgd
from dsgd.run import Run
from dsgd.simulation import World
from topologies import OnePeerExponential, Periodic, Permuted, RandomMatching, Schedule, Static, Topology

Make = Callable[..., Run]
CPU = LocalBackend("cpu")


class Kept:
    """A fleet whose places stay for the next run: starting one takes longer than training a small run."""

    def __init__(self, kept: Sequence[Place]) -> None:
        self.kept = kept

    def places(self, count: int, least: int) -> list[Place]:
        return [Lent(place) for place in self.kept[:count]]

    def end(self) -> None:
        for place in self.kept:
            place.end()


class Lent:
    """A place that goes on living when a run ends it."""

    def __init__(self, place: Place) -> None:
        self.host, self.ask = place.host, place.ask

    def end(self) -> None:
        """Nothing: the next run has it."""


@pytest.fixture(scope="session")
def fleet() -> Iterator[Kept]:
    kept = Kept([ChildPlace() for _ in range(4)])
    yield kept
    kept.end()


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.steps, self.rows, self.snapshots, self.events = [0], list[Any](), list[Any](), list[Any]()

    def stepped(self, step: int) -> None:
        self.steps.append(step)

    def measured(self, row: Any) -> None:
        self.rows.append(row)

    def snapshotted(self, step: int, params: Mapping[str, torch.Tensor]) -> None:
        self.snapshots.append((step, {name: leaf.clone() for name, leaf in params.items()}))

    def event(self, event: str, **details: object) -> None:
        self.events.append((event, details))


class Keeping:
    """A keeper that holds the worlds, and wishes to stop once `until` is true."""

    def __init__(self, every: int, until: Callable[[], bool] = lambda: False) -> None:
        self.every, self.until = every, until
        self.worlds: list[World] = []

    def keep(self, world: World) -> None:
        self.worlds.append(world)

    def stopping(self) -> bool:
        return self.until()


def close(found: Result, expected: Result, tolerance: float = 1e-10) -> None:
    for name, leaf in expected.params.items():
        torch.testing.assert_close(found.params[name], leaf, rtol=tolerance, atol=tolerance * float(leaf.abs().max()))
    assert len(found.history) == len(expected.history)
    for row, expected_row in zip(found.history, expected.history, strict=True):
        assert row == pytest.approx(expected_row, rel=100 * tolerance, abs=tolerance)


SCHEDULES: dict[str, Schedule] = {
    "ring": Static(Topology("ring", 7)),
    "complete": Static(Topology("complete", 7)),
    "exponential": Static(Topology("exponential", 7)),
    "one_peer": OnePeerExponential(7),
    "matching": RandomMatching(Topology("ring", 7)),
    "permuted": Permuted(Topology("star", 7)),
    "periodic": Periodic(Static(Topology("ring", 7)), 3),
}
COMBINATIONS = list(itertools.product(ALGORITHMS, SCHEDULES, GRADIENTS))


def combined(small: Make, algorithm: str, schedule: str, gradient: str, **parts: Any) -> Run:
    return small(
        **{
            "topology": SCHEDULES[schedule],
            "algorithm": algorithm,
            "gradient": GRADIENTS[gradient](),
            "optimizer": Sgd(momentum=0.9),
            "metrics": (Consensus(),),
            "steps": 20,
            "measure_every": 10,
            **parts,
        }
    )


def in_processes(fleet: Kept, run: Run, count: int, *observers: Any, **how: Any) -> Result:
    return supervise(fleet, Terms(count, device="cpu", timeout=20), run, observers, **how)


def compared(fleet: Kept, run: Run, count: int, tolerance: float = 1e-10) -> None:
    close(in_processes(fleet, run, count), CPU.train(run), tolerance)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("algorithm", "schedule", "gradient"), random.Random(4).sample(COMBINATIONS, 12))
def test_in_processes_the_numbers_are_the_local_ones(
    fleet: Kept, small: Make, algorithm: str, schedule: str, gradient: str, count: int
) -> None:
    compared(fleet, combined(small, algorithm, schedule, gradient), count)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize(("algorithm", "schedule", "gradient"), COMBINATIONS)
def test_in_processes_every_combination_gives_the_local_numbers(
    fleet: Kept, small: Make, algorithm: str, schedule: str, gradient: str, count: int
) -> None:
    compared(fleet, combined(small, algorithm, schedule, gradient), count)


MORE: dict[str, dict[str, Any]] = {
    "twins": {"twins": (WeightDiversity(), Plain()), "gradient_noise": 0.1},
    "adamw": {"optimizer": AdamW()},
    "lamb": {"optimizer": Lamb()},
    "gauges": {"gradient": Tram("input"), "metrics": (Gauges(),)},
    "batch normalisation": {"model": Mlp((8,), norm="batch"), "twins": (Plain(),), "metrics": (Accuracy(),)},
    "local steps": {"local_steps": 3},
    "adaptive": {"gossip": Adaptive(power=1.0), "learning_rate": Cosine(0.2)},
    "repeated": {"gossip": Repeated(3), "local_steps": 2},
    "until": {"gossip": Until(3e-4)},
    "until, in quarantine": {"gossip": Until(3e-4), "not_finite": "quarantine"},
    "quarantine": {"not_finite": "quarantine"},
    "full batches": {"batch_size": "full"},
    "own starts": {"starts": "own", "twins": (Plain(),)},
    "one replica each": {"topology": Static(Topology("ring", 3))},
}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", MORE)
def test_whatever_a_run_is_made_of_the_numbers_are_the_local_ones(
    fleet: Kept, small: Make, name: str, count: int
) -> None:
    compared(fleet, replace(combined(small, "consensus", "ring", "plain"), **MORE[name]), count)


@pytest.mark.parametrize("gradient", [Plain(), WeightDiversity(samples=0)], ids=["plain", "cubature"])
def test_in_float32_the_numbers_agree_to_a_ten_thousandth(fleet: Kept, small: Make, gradient: Gradient) -> None:
    run = replace(combined(small, "consensus", "ring", "plain", dtype="float32", steps=50), gradient=gradient)
    compared(fleet, run, 3, 1e-4)


def test_one_place_gives_the_local_bits(fleet: Kept, small: Make) -> None:
    run = combined(small, "adapt_then_combine", "exponential", "weight_diversity")
    found, expected = in_processes(fleet, run, 1), CPU.train(run)
    assert all(torch.equal(found.params[name], leaf) for name, leaf in expected.params.items())
    assert found.history == expected.history


def test_observers_hear_of_each_row_and_snapshot_once(fleet: Kept, small: Make) -> None:
    seen, alone = Seen(), Seen()
    run = small(n=4, steps=30, snapshot_every=10)
    result = in_processes(fleet, run, 2, seen)
    CPU.train(run, (alone,))
    assert seen.rows == result.history
    assert [row["step"] for row in seen.rows] == [row["step"] for row in alone.rows]
    assert [step for step, _ in seen.snapshots] == [step for step, _ in alone.snapshots] == [0, 10, 20, 30]
    assert seen.steps == sorted(set(seen.steps))
    assert seen.steps[-1] == 30


def test_a_run_stops_on_wish_and_goes_on_from_there(fleet: Kept, small: Make) -> None:
    """Also in another number of places."""
    run, seen = small(n=5, steps=500, measure_every=100), Seen()
    keeper = Keeping(0, until=lambda: seen.steps[-1] > 100)
    with pytest.raises(Stopped) as stopped:
        in_processes(fleet, run, 2, seen, keeper=keeper)
    (world,) = keeper.worlds
    assert 100 < world.step == stopped.value.step < 500
    close(in_processes(fleet, run, 3, world=world), CPU.train(run, world=world), 1e-7)


def test_a_run_that_diverges_says_so_from_any_place(fleet: Kept, small: Make) -> None:
    from dsgd.learning_rates import Constant

    with pytest.raises(FloatingPointError, match="are not finite after"):
        in_processes(fleet, small(n=4, model=Mlp((8,), activation="relu"), learning_rate=Constant(1e100)), 2)


def test_bytes_crossed_are_rows_times_receivers(fleet: Kept, small: Make) -> None:
    """The ring of 8 in two halves: two rows each way a step."""
    run = small(topology=Static(Topology("ring", 8)), steps=10)
    result = in_processes(fleet, run, 2)
    d = sum(leaf[0].numel() for leaf in result.params.values())
    assert result.bytes_crossed == 10 * 4 * d * 8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"actors": -1}, "actors is -1; it must be at least 0"),
        ({"timeout": 0.0}, "timeout is 0.0; it must be above 0 seconds"),
        ({"straggler_timeout": 40.0}, "straggler_timeout is 40.0, above the timeout of 30.0 seconds"),
        ({"restarts": -1}, "restarts is -1; it must be at least 0"),
        ({"device": "tpu"}, "device is tpu; allowed are auto, cpu, cuda"),
    ],
)
def test_terms_that_nobody_could_keep_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ProcessesBackend(**wrong)


def test_more_places_than_replicas_are_refused_before_any_starts(small: Make) -> None:
    with pytest.raises(ValueError, match="actors is 9, but there are only 4 replicas; take 1 to 4"):
        ProcessesBackend(actors=9).train(small(n=4))


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


def test_what_travels_is_no_larger_than_what_it_holds(small: Make) -> None:
    """Leaves are views of one matrix, of a pack's even: a view pickled is all of it."""
    runs = [small(seed=seed, model=Mlp((64, 32)), snapshot_every=20) for seed in range(6)]
    recordings = recorded(runs, "cpu", 1, hello())
    sizes = [leaf.nbytes for one in recordings for leaf in one.outcome.params.values()]  # type: ignore[union-attr]
    assert len(pickle.dumps(recordings)) < 3.5 * sum(sizes)  # the end, and snapshots at steps 0 and 20


@dataclass(frozen=True)
class Slow:
    """A metric that takes its time."""

    seconds: float
    every: int | None = None

    def __call__(self, snapshot: Snapshot) -> Values:
        time.sleep(self.seconds)
        return {"slow": float(snapshot.step)}


def test_a_measurement_may_take_longer_than_the_timeout(fleet: Kept, small: Make) -> None:
    """Only the first place measures; nobody takes it for lost, nor leaves it out for being late."""
    run, seen = small(n=4, steps=2, metrics=(Slow(1.5),), measure_every=1), Seen()
    result = supervise(fleet, Terms(2, device="cpu", timeout=1, patience=0.5), run, (seen,))
    assert [row["slow"] for row in result.history] == [0, 1, 2]
    assert seen.events == []
    assert result.dropped == 0


def test_a_place_that_is_used_again_has_nothing_left_of_before(fleet: Kept, small: Make) -> None:
    from dsgd.learning_rates import Constant

    diverging = small(n=4, model=Mlp((8,), activation="relu"), learning_rate=Constant(1e100))
    for _ in range(8):
        with pytest.raises(FloatingPointError):
            in_processes(fleet, diverging, 2)
        assert len(in_processes(fleet, small(n=4), 2).history) == 2


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


@cache
def undisturbed(run: Run, count: int) -> Result:
    return ProcessesBackend(count, "cpu").train(run)


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
    """Stopped for a second and a half: with patience the others mix without it, and say how often."""
    run, seen = small(n=4, steps=400, measure_every=400), Seen()
    fleet = Doomed(seen, signal.SIGSTOP, after=50, wake_after=1.5)
    result = supervise(fleet, Terms(2, device="cpu", timeout=20, patience=0.1), run, (seen,))
    assert fleet.struck
    assert seen.events == []
    assert 0 < result.dropped < 100
    assert all(leaf.isfinite().all() for leaf in result.params.values())
    waiting = Doomed(Seen(), signal.SIGSTOP, after=50, wake_after=1.5)
    patient = supervise(waiting, Terms(2, device="cpu", timeout=20), run, (waiting.seen,))
    expected = undisturbed(run, 2)
    assert patient.dropped == 0
    assert all(torch.equal(patient.params[name], leaf) for name, leaf in expected.params.items())


UNGUARDED = """
from dsgd.backends.processes import ProcessesBackend
from dsgd.data import Digits
from dsgd.models import Mlp
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

run = Run(task=Task(Digits(train_size=64)), model=Mlp((4,)), topology=Static(Topology("ring", 4)), steps=1)
ProcessesBackend(2, "cpu").train(run)
"""


def test_a_script_without_a_guard_is_told_so_and_not_tried_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "ended as it started (exit status 1" in done.stderr.splitlines()[-1]
    assert "`if __name__ == '__main__':`" in done.stderr.splitlines()[-1]
    assert done.stderr.count("freeze_support") <= 2 * 2


def test_too_many_losses_end_the_run_with_a_sentence(small: Make) -> None:
    run, seen = small(n=4, steps=100_000, measure_every=100_000), Seen()
    fleet = Doomed(seen, signal.SIGKILL, after=20, times=9)
    with pytest.raises(BackendError, match=r"more than 1 losses are not made good"):
        supervise(fleet, Terms(2, device="cpu", timeout=5, restarts=1), run, (seen,))
    assert [details["restarts_left"] for _, details in seen.events] == [1, 0]
