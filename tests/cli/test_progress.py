"""Progress is a live line on a terminal, and elsewhere a plain line now and then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from dsgd.cli import progress

if TYPE_CHECKING:
    from pathlib import Path

from tests.cli.small import SMALL


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    said: list[str] = []

    def clock() -> float:
        return now[0]

    meter = progress.Meter(100, progress.lines(100, said.append, clock), clock)
    meter.measured({"step": 0, "test_accuracy_mean_model": 0.1, "train_loss_mean_model": None})
    for step in range(1, 101):
        now[0] = step / 8
        meter.stepped(step)
    meter.measured({"step": 100, "test_accuracy_mean_model": 0.9})
    assert said == [
        "step 40/100  8 steps/s  7.5 s left  test accuracy 0.1",
        "step 80/100  8 steps/s  2.5 s left  test accuracy 0.1",
        "step 100/100  8 steps/s  0 s left  test accuracy 0.9",
    ]


def test_a_terminal_gets_a_live_line_without_colour_where_asked(tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "dsgd.cli", "run", *SMALL, "--json"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, env=environment, check=True)
    os.close(follower)
    seen = os.read(leader, 65536).decode()
    assert json.loads(done.stdout)["status"] == "ok"
    assert "steps/s" in seen
    assert "\x1b[3" not in seen
