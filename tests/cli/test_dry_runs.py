"""`dsgd run --dry-run` says what a run would cost, about, and writes nothing."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import dsgd
from dsgd.backends.local import LocalBackend
from dsgd.cli import estimates
from dsgd.cli.signals import within
from dsgd.config import load
from dsgd.metrics import Accuracy, Consensus, Curvature
from topologies import OnePeerExponential

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.run import Run
    from tests.conftest import Dsgd
from tests.cli.small import SMALL


def test_the_cost_is_told_beside_the_configuration(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "steps=50", "--dry-run")
    assert (status, "steps: 50" in out, list(tmp_path.iterdir())) == (0, True, [])
    assert re.search(r"^parameters +310 a replica, 1,240 in all$", err, re.M)
    assert re.search(r"^memory +about .* KB of .* available$", err, re.M)
    assert re.search(r"^sent +9\.92 KB a step, 496 KB in all$", err, re.M)
    assert re.search(r"^time +about .* s here \(.* steps/s\)$", err, re.M)
    assert "parameters" not in out


def test_bytes_a_step_are_those_that_a_run_sends(small: Callable[..., Run]) -> None:
    for fields in ({}, {"local_steps": 3, "steps": 12}, {"topology": OnePeerExponential(4), "steps": 6}):
        run: Any = small(**fields)
        found = estimates.timed(run, LocalBackend("cpu"))
        sent = dsgd.train(run).history[-1]["bytes_sent"]
        assert found.bytes_a_step * run.steps == pytest.approx(sent)


def test_the_time_is_that_of_the_steps_and_the_measurements(small: Callable[..., Run]) -> None:
    run = small(steps=100, measure_every=30, metrics=(Consensus(), Accuracy(every=0), Curvature(every=0)))
    timing = estimates.Timing(step=0.5, metrics={"consensus": 2.0, "accuracy": 3.0})
    assert estimates._total(run, timing) == (100 * 0.5 + 5 * 2.0 + 3.0, ["curvature"])
    assert len(dsgd.train(small(steps=100, measure_every=30)).history) == 5


def test_what_cannot_be_known_is_said_and_why(dsgd_command: Dsgd) -> None:
    assert (
        "time        not known: it diverges: " in dsgd_command("run", *SMALL, "learning_rate.lr=1e38", "--dry-run")[2]
    )
    large = [*SMALL, "topology.n=100000", "model.widths=[10000]", "--dry-run"]
    status, _, err = dsgd_command("run", *large)
    assert (status, "not known: it needs more memory than there is" in err) == (0, True)
    elsewhere = dsgd_command("run", *SMALL, "backend=processes", "backend.actors=2", "--dry-run")[2]
    assert "not known: timed is only a run in one place" in elsewhere


def test_a_slow_step_or_metric_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> Any:
        for _ in range(1000):
            time.sleep(0.01)

    monkeypatch.setattr(estimates, "SECONDS_FOR_METRICS", 0.2)
    monkeypatch.setattr(Accuracy, "__call__", slow)
    found = estimates.estimate(load(None, SMALL))
    assert found["seconds"] is not None
    assert found["seconds_note"] == "without accuracy, which were not timed"
    monkeypatch.setattr(estimates, "SECONDS_FOR_FIRST", 0.2)
    monkeypatch.setattr("dsgd.simulation.Simulation.advance", slow)
    began = time.monotonic()
    assert estimates.estimate(load(None, SMALL))["seconds_note"] == "the first step takes more than 0.2 s"
    assert time.monotonic() - began < 8


def test_a_block_ends_when_its_seconds_are_over() -> None:
    reached = []
    with within(0.1):
        reached.append("begun")
        time.sleep(5)
        reached.append("ended")
    with within(5):
        reached.append("quick")
    time.sleep(0.15)
    assert reached == ["begun", "quick"]


def test_nothing_is_computed_after_a_step_was_cut_short(
    monkeypatch: pytest.MonkeyPatch, small: Callable[..., Run]
) -> None:
    first = [True]

    def slow(simulation: Any, world: Any) -> Any:
        if not first:
            time.sleep(30)
        first.clear()
        return world

    monkeypatch.setattr(estimates, "SECONDS_FOR_FIRST", 0.2)
    monkeypatch.setattr("dsgd.simulation.Simulation.advance", slow)
    monkeypatch.setattr(Consensus, "__call__", lambda *_: pytest.fail("measured in whatever mode torch was left"))
    found = estimates.timed(small(steps=5, metrics=(Consensus(),)), LocalBackend("cpu"))
    assert (found.step is not None, found.metrics) == (True, {})


def test_steps_end_by_themselves_when_their_time_is_over(
    monkeypatch: pytest.MonkeyPatch, small: Callable[..., Run]
) -> None:
    monkeypatch.setattr(estimates, "SECONDS_FOR_STEPS", 0.05)
    monkeypatch.setattr("dsgd.simulation.Simulation.advance", lambda simulation, world: time.sleep(0.03) or world)
    found = estimates.timed(small(steps=100, metrics=(Consensus(),)), LocalBackend("cpu"))
    assert list(found.metrics) == ["consensus"]


def test_an_alarm_that_rings_as_a_block_ends_is_caught_too() -> None:
    for microseconds in range(4000):
        with within(2e-6 * (1 + microseconds % 60)):
            sum(range(microseconds))
    assert not signal.getitimer(signal.ITIMER_REAL)[0]
