"""A run that is killed, terminated or short of memory goes on to the same bytes, and leaves no process behind."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsgd import cli
from dsgd.checkpoints import generations
from dsgd.results import read_history, read_summary
from tests.resume.interrupted import LONG, assert_same_run, begun
from tests.rows import near
from tests.test_security import tree


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
    assert read_history(tmp_path / "here")[-1] == near(read_history(folder)[-1], rel=1e-9)
