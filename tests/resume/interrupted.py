"""Runs that are begun as commands, interrupted, and compared to the last byte."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dsgd.run import Run

Make = Callable[..., Run]
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


LONG = [*SMALL[:4], "steps=1500", "measure_every=100", "snapshot_every=700", "checkpoint_every=150", *SMALL[7:10]]


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
