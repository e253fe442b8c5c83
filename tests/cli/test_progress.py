"""Progress is a live view on a terminal, and elsewhere a plain line now and then."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dsgd.cli import live, progress
from dsgd.metrics import Accuracy, Consensus, Curvature

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.run import Run
from tests.cli.small import SMALL

Small = Callable[..., "Run"]


def test_plain_lines_come_now_and_then_and_at_the_end(small: Small) -> None:
    now = [0.0]
    said: list[str] = []

    def clock() -> float:
        return now[0]

    run = small(steps=100, measure_every=100)
    meter = progress.Meter(run, progress.lines(said.append, clock), clock)
    meter.measured({"step": 0, "test_accuracy_mean_model": 0.1, "train_loss_mean_model": None})
    for step in range(1, 101):
        now[0] = step / 8
        meter.stepped(step)
    meter.measured({"step": 100, "test_accuracy_mean_model": 0.9})
    assert said == [
        "step 40/100  8 steps/s  7.5 s left  test accuracy 0.1",
        "step 80/100  8 steps/s  2.5 s left  test accuracy 0.1",
        "step 100/100  8 steps/s  test accuracy 0.9",
    ]


def test_what_may_take_long_to_measure_is_said_before(small: Small) -> None:
    """What is new, and what was slow the last time; not what was quick."""
    now, said = [0.0], list[str]()
    run = small(steps=6, measure_every=2, metrics=(Consensus(), Curvature(every=0)))
    meter = progress.Meter(run, progress.lines(said.append, lambda: now[0]), lambda: now[0])
    seconds = {0: 0.1, 2: 2.5, 4: 0.1, 6: 0.1}
    for step in range(7):
        if step:
            meter.stepped(step)
        if step in seconds:
            now[0] += seconds[step]
            meter.measured({"step": step})
    assert [line for line in said if "measuring" in line] == [
        "step 4/6  measuring consensus ...",
        "step 6/6  measuring consensus, curvature ...",
    ]
    assert "left" not in said[-1]


def drawn(meter: progress.Meter, **how: Any) -> list[str]:
    console = Console(width=100, record=True, file=open(os.devnull, "w"), color_system=None)  # noqa: SIM115
    console.print(live.view(meter, "runs/ring", **how))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_live_view_says_where_the_run_stands_and_what_it_is_at(small: Small) -> None:
    now = [0.0]
    run = small(steps=100, measure_every=20, metrics=(Consensus(), Accuracy(), Curvature(every=0)))
    meter = progress.Meter(run, lambda meter: None, lambda: now[0])
    now[0] = 3.0
    assert drawn(meter)[-2:] == ["starting  3 s so far", "measuring consensus, accuracy ... 3 s"]
    for step in range(101):
        if step:
            now[0] = 3.0 + step / 10
            meter.stepped(step)
        if step % 20 == 0 and step < 100:
            meter.measured({"step": step, "test_accuracy_mean_model": step / 100, "consensus_distance": None})
        if step == 50:
            halfway = drawn(meter)
    assert "step 50 of 100" in halfway[1]
    assert halfway[2:] == [
        "10 steps/s  40 replica-steps/s  8 s so far  5 s left",
        "test accuracy  0.4  ▁▅█",
    ]
    now[0] += 40
    *_, pace, accuracy, doing = drawn(meter)
    assert pace == "10 steps/s  40 replica-steps/s  53 s so far"
    assert accuracy == "test accuracy  0.8  ▁▃▅▆█"
    assert doing == "measuring consensus, accuracy, curvature ... 40 s"
    assert drawn(meter, blocks=False)[-2] == "test accuracy  0.8"


def test_a_sparkline_is_as_long_as_its_values_up_to_a_width() -> None:
    assert live.sparkline([]) == ""
    assert live.sparkline([3.0, 3.0]) == "▁▁"
    assert live.sparkline([0.0, 1.0, 0.5]) == "▁█▅"
    assert live.sparkline([float(i) for i in range(1000)], 8) == "▁▂▃▄▅▆▇█"
    assert live.series([{"a": 1.0}, {"a": None}, {}, {"a": float("nan")}, {"a": 2}], "a") == [1.0, 2.0]


def on_a_terminal(folder: Path, words: list[str], **environment: str) -> tuple[str, str]:
    """What a command prints on stdout, and what it shows on a terminal."""
    import pty

    leader, follower = pty.openpty()
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    variables |= {"TERM": "xterm", **environment}
    command = [sys.executable, "-m", "dsgd.cli", *words]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=follower, env=variables, text=True)
    os.close(follower)
    seen = b""
    with contextlib.suppress(OSError):  # the end of a terminal that nobody writes to any more
        while read := os.read(leader, 65536):
            seen += read
    out, _ = running.communicate(timeout=60)
    os.close(leader)
    assert running.returncode == 0, seen
    return out, seen.decode()


def test_a_terminal_gets_a_live_view_that_is_gone_in_the_end(tmp_path: Path) -> None:
    out, seen = on_a_terminal(tmp_path, ["run", *SMALL, "--out", "here", "--json"])
    assert json.loads(out)["status"] == "ok"
    assert "step 4 of 4" in seen
    assert seen.index("\x1b[?25l") < seen.rindex("\x1b[?25h")
    assert seen.rstrip().endswith("\x1b[2K")


def test_a_terminal_without_colour_or_cursor_gets_plain_lines(tmp_path: Path) -> None:
    for variable in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, seen = on_a_terminal(tmp_path, ["run", *SMALL, "--json"], **variable)
        assert "step 4/4" in seen
        assert "\x1b" not in seen


def test_runs_trained_together_say_how_many_of_their_steps_are_done() -> None:
    now, said = [0.0], list[str]()
    meter = progress.Together(40, progress.count_lines(said.append, lambda: now[0]), lambda: now[0])
    meter(0, 2, "seed=0", None)
    for step in range(1, 21):
        now[0] = float(step)
        meter.stepped(step)
        meter.stepped(step)
    meter(2, 2, "seed=1", 0.0)
    assert said == [
        "run 0/2  seed=0",
        "run 0/2  17 s left  22% of the steps  seed=0",
        "run 0/2  11 s left  48% of the steps  seed=0",
        "run 0/2  5.7 s left  72% of the steps  seed=0",
        "run 0/2  0.5 s left  98% of the steps  seed=0",
        "run 2/2  0 s left  seed=1",
    ]
