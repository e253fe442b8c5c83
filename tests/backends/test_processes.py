"""Every backend gives the local one's numbers: for each algorithm, schedule and gradient, in one to four places."""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends.processes import ProcessesBackend
from dsgd.backends.rank import hello
from dsgd.backends.recordings import recorded
from dsgd.backends.supervision import Terms, supervise
from dsgd.gossip import Adaptive, Repeated, Until
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.tram import Tram
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.learning_rates import Cosine
from dsgd.loop import Stopped
from dsgd.metrics import Accuracy, Gauges, Snapshot, Values
from dsgd.models import Mlp
from dsgd.optimizers import AdamW, Lamb
from tests.backends.fleets import CPU, SCHEDULES, Keeping, Kept, Make, Seen, close, combined, compared, in_processes
from topologies import Static, Topology

COMBINATIONS = list(itertools.product(ALGORITHMS, SCHEDULES, GRADIENTS))


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
