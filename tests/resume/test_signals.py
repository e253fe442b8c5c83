"""A signal ends a run after its step, a second one at once; other threads and ignored signals are left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsgd import cli
from dsgd.cli import signals
from dsgd.loop import STEPS_BETWEEN_ASKING
from dsgd.results import read_summary
from tests.resume.interrupted import LONG, SMALL, assert_same_run, begun


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
