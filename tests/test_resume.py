"""Interrupted and resumed is uninterrupted, to the last byte, however the run was interrupted."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd import cli
from dsgd.algorithms import ALGORITHMS
from dsgd.checkpoints import generations, latest, step_of
from dsgd.cli import recording, signals
from dsgd.communicators import Local
from dsgd.fingerprint import origin
from dsgd.footprint import layout_of
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.keeping import FolderKeeper, Keeping
from dsgd.learning_rates import Cosine, Multistep
from dsgd.locks import LOCK, locked
from dsgd.loop import STEPS_BETWEEN_ASKING, Result, Stopped, simulate
from dsgd.metrics import Accuracy, Consensus, Gauges
from dsgd.models import Mlp
from dsgd.optimizers import AdamW, Lamb, Sgd
from dsgd.results import RunFolder, read_history, read_summary
from dsgd.run import Run
from dsgd.simulation import Simulation
from tests.conftest import Dsgd
from tests.test_gossip import EXAMPLES
from tests.test_security import tree
from topologies import (
    SCHEDULES,
    OnePeerExponential,
    Periodic,
    Permuted,
    RandomMatching,
    Schedule,
    Static,
    Topology,
)

Make = Callable[..., Run]
CPU = torch.device("cpu")
RING = Topology("ring", 4)
ALL_SCHEDULES: dict[str, Schedule] = {
    "static": Static(RING),
    "one_peer_exponential": OnePeerExponential(4),
    "random_matching": RandomMatching(RING),
    "permuted": Permuted(RING),
    "periodic": Periodic(Static(RING), 3),
}
OPTIMIZERS = (Sgd(), Sgd(momentum=0.9), AdamW(), Lamb())


class Reached:
    """An observer that says whether a step is done."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, False

    def stepped(self, step: int) -> None:
        self.done = step >= self.step

    def measured(self, row: Any) -> None: ...
    def snapshotted(self, step: int, params: Any) -> None: ...
    def event(self, event: str, **details: object) -> None: ...
    def __call__(self) -> bool:
        return self.done


def stopped_at(run: Run, folder: RunFolder, step: int) -> Result | None:
    """The run's result, begun from what lies in the folder; None where it was stopped at the step."""
    found, reached = latest(folder.path, origin(run), layout_of(run)), Reached(step)
    keeper = FolderKeeper(folder, Keeping(0), run.steps, origin(run), reached, print)
    try:
        world = found.world if found else None
        return simulate(Simulation(run, Local(run.n), CPU), (folder, reached), world, keeper)
    except Stopped:
        return None


def test_every_schedule_is_here() -> None:
    assert ALL_SCHEDULES.keys() == SCHEDULES.keys()


@pytest.mark.parametrize("schedule", ALL_SCHEDULES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stopped_anywhere_and_begun_again_is_the_same_run(
    small: Make, tmp_path: Path, algorithm: str, schedule: str
) -> None:
    chance = random.Random(f"{algorithm} {schedule}")
    run = small(
        topology=ALL_SCHEDULES[schedule],
        algorithm=algorithm,
        local_steps=1 if algorithm == "centralized" else 3,
        optimizer=chance.choice(OPTIMIZERS),
        learning_rate=Multistep(lr=0.1, warmup=2, milestones=(0.5,)),
        twins=(WeightDiversity(), Plain()),
        gradient_noise=0.1,
        dtype="float32",
        metrics=(Consensus(), Accuracy()),
        measure_every=3,
        steps=12,
    )
    assert_goes_on(run, tmp_path / "run", sorted(chance.sample(range(1, run.steps), 2)))


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_method_begun_again_is_the_same_run(small: Make, tmp_path: Path, name: str) -> None:
    """With momentum, the method's memory and running statistics; stopped within LookSAM's period."""
    run = small(
        gradient=GRADIENTS[name](),
        model=Mlp((6,), norm="batch"),
        batch_size=8,
        optimizer=Sgd(momentum=0.9),
        metrics=(Accuracy(), Gauges()),
        measure_every=4,
        steps=16,
    )
    assert_goes_on(run, tmp_path / "run", [5, 13])


@pytest.mark.parametrize("name", GOSSIPS)
def test_every_gossip_begun_again_is_the_same_run(small: Make, tmp_path: Path, name: str) -> None:
    run = small(
        gossip=EXAMPLES[name],
        model=Mlp((6,), norm="batch"),
        batch_size=8,
        learning_rate=Cosine(0.2),
        metrics=(Consensus(), Accuracy()),
        measure_every=4,
        steps=16,
        dtype="float32",
    )
    assert_goes_on(run, tmp_path / "run", [3, 13])


def test_from_starts_of_their_own_begun_again_is_the_same_run(small: Make, tmp_path: Path) -> None:
    assert_goes_on(small(starts="own", twins=(Plain(),), steps=12), tmp_path / "run", [4, 7])


def assert_goes_on(run: Run, path: Path, steps: list[int]) -> None:
    """Stopped after these steps and begun again it is the uninterrupted run, to the bit."""
    folder = RunFolder.create(path, run.describe(), device="cpu")
    for step in steps:
        assert stopped_at(run, folder, step) is None
        assert step_of(generations(folder.path)[-1]) == step
    late = stopped_at(run, folder, 99)
    assert late is not None
    whole = simulate(Simulation(run, Local(run.n), CPU))
    assert read_history(folder.path) == json.loads(json.dumps(whole.history))
    for name, leaf in whole.params.items():
        assert torch.equal(leaf, late.params[name])


SMALL = [
    "task=digits",
    "task.train_size=128",
    "model.widths=[4]",
    "topology.n=4",
    "steps=40",
    "measure_every=3",
    "snapshot_every=7",
    "batch_size=4",
    "optimizer=adamw",
    "twins=[average_direction_sam]",
    "checkpoint_every=8",
    "backend.device=cpu",
]


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """Sends this process a signal in the middle of a step."""

    def at(step: int, number: signal.Signals = signal.SIGTERM) -> None:
        def stepped(self: recording.Tally, done: int) -> None:
            self.steps = done
            if done == step:
                signal.raise_signal(number)

        monkeypatch.setattr(recording.Tally, "stepped", stepped)

    return at


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("ensemble.safetensors", "metrics.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    snapshots = sorted(path.name for path in one.glob("snapshots/*"))
    assert snapshots == sorted(path.name for path in other.glob("snapshots/*"))
    for name in snapshots:
        assert (one / "snapshots" / name).read_bytes() == (other / "snapshots" / name).read_bytes()


def events_of(folder: Path) -> list[tuple[str, Any]]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [(event["event"], event.get("step")) for event in map(json.loads, lines)]


def test_a_run_that_is_signalled_stops_after_its_step_and_resumes(dsgd_command: Dsgd, signalled: Any) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signalled(13)
    status, out, err = dsgd_command("run", *SMALL, "--out", "a run", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (143, "interrupted", 13)
    assert err.splitlines()[-1] == "interrupted after 13 steps; to go on: dsgd resume 'a run'"
    assert not (Path("a run") / LOCK).exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    signalled(30, signal.SIGINT)
    status, out, err = dsgd_command("resume", "a run")
    assert status == 130
    assert re.search(r"^status +interrupted\n", out)
    assert "interrupted after 30 steps" in err
    signalled(99)
    status, out, err = dsgd_command("resume", "a run", "--json")
    summary, whole = json.loads(out), read_summary("whole")
    assert (status, summary["resumed_at"]) == (0, 30)
    assert summary.keys() == {*whole, "resumed_at"}
    assert {**summary, **dict.fromkeys(timed := ("seconds", "replica_steps_per_second", "run_dir", "resumed_at"))} == {
        **whole,
        **dict.fromkeys(timed),
    }
    assert_same_run(Path("a run"), Path("whole"))
    assert events_of(Path("a run")) == [
        ("started", None),
        ("interrupted", None),
        ("resumed", 13),
        ("interrupted", None),
        ("resumed", 30),
        ("finished", None),
    ]
    assert [step_of(path) for path in generations(Path("a run"))] == [24, 30, 32]


def test_a_finished_run_is_shown_again_and_left_as_it_is(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "steps=8", "--out", "here")[0] == 0
    assert not Path("here/checkpoints").exists()  # a small run keeps none
    before = {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")}
    status, out, err = dsgd_command("resume", "here", "--json")
    assert (status, err) == (0, "here is finished; nothing is left to do\n")
    assert json.loads(out) == read_summary("here")
    assert dsgd_command("resume", "here")[1].startswith("status ")
    assert {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")} == before


@pytest.fixture
def stopped(dsgd_command: Dsgd, signalled: Any) -> Path:
    """A run that was stopped after 13 of 40 steps."""
    signalled(13)
    assert dsgd_command("run", *SMALL, "--out", "here")[0] == 143
    signalled(99)
    return Path("here")


def test_what_a_crash_left_is_put_right(dsgd_command: Dsgd, stopped: Path) -> None:
    """Rows and snapshots after the checkpoint, lines that were cut, temporary files; the user's own file stays."""
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    dead = subprocess.Popen(["true"])
    dead.wait()
    with (stopped / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 15, "loss": 1}\n{"step": 1')
    with (stopped / "events.jsonl").open("a") as events:
        events.write('{"time": "2')
    (stopped / "snapshots" / "step-000014.safetensors").write_bytes(b"later")
    for left in (f"snapshots/.a.tmp-{dead.pid}", f".summary.json.tmp-{dead.pid}"):
        (stopped / left).touch()
    (stopped / "checkpoints" / f"ckpt-000014.tmp-{dead.pid}").mkdir()
    (stopped / "mine.txt").write_text("keep")
    (stopped / LOCK).write_text(f"{dead.pid}\n")
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(stopped, Path("whole"))
    assert (stopped / "mine.txt").read_text() == "keep"
    assert not list(stopped.rglob("*.tmp-*"))


def test_without_a_checkpoint_a_run_starts_anew(dsgd_command: Dsgd, stopped: Path) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    shutil.rmtree(stopped / "checkpoints")
    status, out, err = dsgd_command("resume", "here", "--json")
    assert (status, json.loads(out)["resumed_at"]) == (0, 0)
    assert err.startswith("here holds no complete checkpoint; the run starts anew\n")
    assert_same_run(stopped, Path("whole"))


def test_a_damaged_checkpoint_is_gone_back_from_or_with_strict_refused(dsgd_command: Dsgd, stopped: Path) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    newest = generations(stopped)[-1] / "replicas.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    status, out, err = dsgd_command("resume", "here", "--strict")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"{newest} has ")
    status, out, err = dsgd_command("resume", "here", "checkpoint_every=25", "--json")
    assert (status, json.loads(out)["resumed_at"]) == (0, 8)
    assert err.splitlines()[0].startswith(f"warning: {newest} has ")
    assert err.splitlines()[0].endswith("; ckpt-000008 is taken instead")
    assert_same_run(stopped, Path("whole"))
    assert [step_of(path) for path in generations(stopped)] == [8, 25]  # what was damaged is gone


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gone"], "gone is no folder; give the folder of a run that dsgd run began"),
        (["."], ". has no config.yaml; give the folder of a run that dsgd run began"),
        (["here", "seed=3"], "seed=3: would make it another run; allowed are checkpoint_every, on_full_disk, backend"),
        (["here", "backend.device=tpu"], "backend.device: tpu; allowed are auto, cpu, cuda"),
        (["here", "checkpoint_every=no"], "checkpoint_every: 'no' given; allowed is a whole number"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_resumed_is_refused_in_a_line(
    dsgd_command: Dsgd, stopped: Path, arguments: list[str], expected: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    status, out, err = dsgd_command("resume", *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_a_changed_configuration_is_refused_and_what_decides_no_number_is_not(
    dsgd_command: Dsgd, stopped: Path
) -> None:
    config = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(config.replace("seed: 0\nd", "seed: 1\nd"))
    status, _, err = dsgd_command("resume", "here")
    assert status == 2
    assert re.search(r"^here/checkpoints/ckpt-000013 is of run \w{12}, and config.yaml describes \w{12}; ", err)
    (stopped / "config.yaml").write_text(config)
    overrides = ["checkpoint_every=1", "on_full_disk=stop", "backend.device=auto", "backend=local"]
    assert dsgd_command("resume", "here", *overrides)[0] == 0
    assert [step_of(path) for path in generations(stopped)] == [37, 38, 39]


def test_changed_data_are_refused_and_changed_sources_unless_accepted(
    dsgd_command: Dsgd, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsgd.cli import resuming

    known = resuming.origin

    def data_changed(run: Run) -> dict[str, str]:
        return {**known(run), "data": "0" * 64}

    monkeypatch.setattr(resuming, "origin", data_changed)
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(r"is of data \w{12}, and the data and files here are 0{12}; ", err)
    monkeypatch.setattr(resuming, "origin", lambda run: {**known(run), "sources": f"{'9' * 64} with torch 9.9"})
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    both = (
        r"here/checkpoints/ckpt-000013 is of dsgd (\S+), sources \w{12} with torch \d\.\d+, "
        r"and this is dsgd \1, sources 9{12} with torch 9\.9; "
    )
    assert re.match(both + "take that version, or go on in this one with --other-version$", err)
    status, _, err = dsgd_command("resume", "here", "--other-version")
    assert status == 0
    assert re.match(f"warning: {both}the numbers may be others than of one run$", err.splitlines()[0])


def test_a_graph_file_that_changed_is_other_data(small: Make, tmp_path: Path) -> None:
    graph = tmp_path / "graph.edgelist"
    graph.write_text("0 1\n1 2\n2 3\n3 0\n")
    run = small(topology=Static(Topology(str(graph), 4)))
    before = origin(run)
    graph.write_text("0 1\n1 2\n2 3\n")
    assert {name for name, value in origin(run).items() if value != before[name]} == {"data"}


def test_a_folder_at_which_another_is_at_work_is_refused(dsgd_command: Dsgd, stopped: Path) -> None:
    said = f"is in use by process {os.getpid()}: wait until it ends, or stop it\n"
    with locked(stopped):
        assert dsgd_command("resume", "here") == (2, "", f"here {said}")
        assert dsgd_command("run", *SMALL, "--out", "here") == (2, "", f"--out: here {said}")
    with locked(Path("study")):
        arguments = ("study", "consensus_distance", "--preset", "smoke", "--out", "study")
        assert dsgd_command(*arguments) == (2, "", f"study {said}")


def test_a_run_whose_disk_is_full_stops_where_that_is_asked(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    from dsgd import checkpoints

    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "sealing", full)
        status, out, err = dsgd_command("run", *SMALL, "on_full_disk=stop", "--out", "here", "--json")
        assert dsgd_command("run", *SMALL, "--out", "goes on")[0] == 0
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (1, "failed", 9)
    sentence = r"checkpoint here/checkpoints/ckpt-000008 of \d+ bytes could not be written \(No space left on device\)"
    assert re.search(rf"^warning: {sentence}; there is none before it, and the run stops$", err, re.M)
    assert re.search(rf"^failed: {sentence}$", err.splitlines()[-1])
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(Path("here"), Path("whole"))
    assert_same_run(Path("goes on"), Path("whole"))


def test_a_run_whose_ensemble_finds_no_room_fails_and_resumes(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    from dsgd import results

    assert dsgd_command("run", *SMALL, "snapshot_every=0", "--out", "whole")[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(results, "write_leaves", full)
        status, out, err = dsgd_command("run", *SMALL, "snapshot_every=0", "--out", "here", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (1, "failed", 40)
    assert "No space left on device" in err.splitlines()[-1]
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(Path("here"), Path("whole"))


def test_a_run_ended_on_a_full_disk_still_says_how_it_ended(
    dsgd_command: Dsgd, signalled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    signalled(13)
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "_close", full)
        status, out, err = dsgd_command("run", *SMALL, "--out", "here", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (143, "interrupted", 13)
    assert err.splitlines()[-2:] == [
        "warning: here/summary.json could not be written (No space left on device)",
        "interrupted after 13 steps; to go on: dsgd resume here",
    ]
    with pytest.raises(FileNotFoundError):
        read_summary("here")


def test_a_row_without_its_step_is_refused_in_a_line(dsgd_command: Dsgd, stopped: Path) -> None:
    with (stopped / "metrics.jsonl").open("a") as rows:
        rows.write('{"loss": 1}\n')
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.match(r"here/metrics.jsonl, line \d+, has no step that is a whole number$", err)


def test_what_a_signal_says_is_when_places_ask() -> None:
    assert f"at the next multiple of {STEPS_BETWEEN_ASKING};" in signals.STOPS.decode()


def test_in_another_thread_signals_are_left_alone() -> None:
    from threading import Thread

    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with signals.wishing() as wish:
            seen.append((signal.getsignal(signal.SIGTERM), wish.stated()))

    thread = Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.wishing() as wish:
            signal.raise_signal(signal.SIGINT)
            assert not wish.stated()
    finally:
        signal.signal(signal.SIGINT, before)


# With real processes.

LONG = [*SMALL[:4], "steps=1500", "measure_every=100", "snapshot_every=700", "checkpoint_every=150", *SMALL[7:10]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long run, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main(["run", *LONG, "--out", str(folder)]) == 0
    return folder


def begun(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A command in a process of its own that has begun to train in the folder."""
    marks = len(events_of(folder)) if (folder / "events.jsonl").exists() else 0
    arguments = [sys.executable, "-m", "dsgd.cli", *command]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, waited = folder / "metrics.jsonl", time.monotonic()
    while process.poll() is None and time.monotonic() - waited < 60:
        if metrics.exists() and metrics.stat().st_size and len(events_of(folder)) > marks:
            break
        time.sleep(0.01)
    return process


def test_a_killed_run_goes_on(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    process = begun(folder, "run", *LONG, "--out", str(folder))
    while not generations(folder) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert cli.main(["resume", str(folder), "--strict"]) == 0
    assert read_summary(folder)["resumed_at"] >= 150
    assert_same_run(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_moment_again_and_again_it_goes_on(tmp_path: Path, whole: Path, seed: int) -> None:
    chance, folder = random.Random(seed), tmp_path / "run"
    command: tuple[str, ...] = ("run", *LONG, "checkpoint_every=5", "--out", str(folder))
    for _ in range(3):
        process = begun(folder, *command)
        time.sleep(chance.uniform(0, 0.8))
        process.kill()
        process.communicate()
        command = ("resume", str(folder), "--strict")
    assert cli.main(list(command)) == 0
    assert_same_run(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signalled_at_any_moment_it_goes_on(
    tmp_path: Path, whole: Path, number: signal.Signals, status: int, seed: int
) -> None:
    chance, folder = random.Random(seed), tmp_path / "run"
    process = begun(folder, "run", *LONG, "--out", str(folder))
    time.sleep(chance.uniform(0, 0.8))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert f"to go on: dsgd resume {folder}" in err
    assert read_summary(folder)["status"] == "interrupted"
    assert cli.main(["resume", str(folder), "--strict"]) == 0
    assert_same_run(folder, whole)


PATIENT = """
import sys, time
from dsgd import cli, simulation
advance = simulation.Simulation.advance
def slow(self, world):
    print("stepping", flush=True)
    time.sleep(60)
    return advance(self, world)
simulation.Simulation.advance = slow
sys.argv = ["dsgd", *sys.argv[1:]]
cli.script()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals, status: int) -> None:
    arguments = [sys.executable, "-c", PATIENT, "run", *SMALL, "--out", str(tmp_path / "run")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "stepping\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == f"{signals.STOPS.decode()}once more ends it at once\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(number)
    assert process.wait(5) == status
    process.communicate()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0


@pytest.mark.slow
def test_two_processes_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begun(folder, "run", *LONG, "steps=1000000", "--out", str(folder))
    for command in (["run", *LONG, "--out", str(folder)], ["resume", str(folder)]):
        second = subprocess.run([sys.executable, "-m", "dsgd.cli", *command], capture_output=True, text=True)
        assert second.returncode == 2
        assert f"in use by process {process.pid}:" in second.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143


@pytest.mark.slow
def test_a_terminated_study_continues_by_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dsgd.cli", "study", "consensus_distance", "--preset", "smoke", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "runs").exists() and process.poll() is None:
        time.sleep(0.01)
    second = subprocess.run(command, capture_output=True, text=True)
    assert (second.returncode, f"in use by process {process.pid}:" in second.stderr) == (2, True)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "interrupted; the same command continues with the runs that are missing" in err
    assert subprocess.run(command, capture_output=True).returncode == 0


LIMITED = """
import resource, sys
import dsgd.config.checks as checks
import torch, dsgd.simulation
def limit(more):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))
if sys.argv[1] == "run time":
    checks.available = lambda device: None
limit(300_000_000)
sys.argv = ["dsgd", *sys.argv[2:]]
from dsgd.cli import script
script()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "status", "expected"),
    [
        (
            "start",
            2,
            r"^the run needs about [\d.]+ GB of memory and 0\.\d GB are available; take a smaller n or model\n$",
        ),
        ("run time", 1, r"failed: likely out of memory \(.*\); take a smaller topology.n, model or batch_size\n$"),
    ],
)
def test_too_little_memory_is_said_in_a_sentence(tmp_path: Path, when: str, status: int, expected: str) -> None:
    arguments = ["run", "task=digits", "topology.n=64", "model.widths=[20000]", "batch_size=2", "backend.device=cpu"]
    command = [sys.executable, "-c", LIMITED, when, *arguments, "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert re.search(expected, done.stderr)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run").exists() == (when == "run time")
    if when == "run time":
        assert read_summary(tmp_path / "run")["status"] == "failed"


CALM = [*LONG, "optimizer=sgd", "learning_rate.lr=0.01", "dtype=float64", "twins=[]"]
TWO = ["backend=processes", "backend.actors=2"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's children are looked up in /proc")
def test_of_a_killed_owner_no_process_is_left_and_its_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    assert cli.main(["run", *CALM, *TWO, "--out", str(tmp_path / "whole")]) == 0
    folder = tmp_path / "run"
    process = begun(folder, "run", *CALM, *TWO, "--out", str(folder))
    while not generations(folder) and process.poll() is None:
        time.sleep(0.01)
    started = tree(process.pid)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(started) >= 3
    deadline = time.monotonic() + 10
    while (left := [pid for pid in started if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert cli.main(["resume", str(folder), "--strict"]) == 0
    assert read_summary(folder)["resumed_at"] >= 150
    assert_same_run(folder, tmp_path / "whole")


def alive(pid: int) -> bool:
    """Whether a process is there and not only waits to be buried."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.slow
def test_a_run_in_several_processes_goes_on_there_to_the_same_bits_and_here_to_the_same_numbers(tmp_path: Path) -> None:
    """Plain SGD with a small step: AdamW would make another order of sums another run within a thousand steps."""
    assert cli.main(["run", *CALM, *TWO, "--out", str(tmp_path / "whole")]) == 0
    folder = tmp_path / "run"
    process = begun(folder, "run", *CALM, *TWO, "--out", str(folder))
    while not generations(folder) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    shutil.copytree(folder, tmp_path / "here")
    assert cli.main(["resume", str(folder), "--strict"]) == 0
    assert_same_run(folder, tmp_path / "whole")
    assert read_summary(folder)["bytes_crossed"] == read_summary(tmp_path / "whole")["bytes_crossed"] > 0
    assert cli.main(["resume", str(tmp_path / "here"), "--strict", "backend=local"]) == 0
    assert read_history(tmp_path / "here")[-1] == pytest.approx(read_history(folder)[-1], rel=1e-9)
