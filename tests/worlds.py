"""Worlds of small runs, and the checkpoints that are kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dsgd import checkpoints
from dsgd.checkpoints import Checkpoint, latest, save
from dsgd.communicators import Local
from dsgd.fingerprint import origin
from dsgd.footprint import layout_of
from dsgd.run import Run
from dsgd.sealed import MANIFEST
from dsgd.simulation import Simulation, World

Make = Callable[..., Run]
CPU = torch.device("cpu")
FILES = (checkpoints.TENSORS, checkpoints.STATE, MANIFEST)


def world_after(run: Run, steps: int) -> World:
    simulation = Simulation(run, Local(run.n), CPU)
    world = simulation.start()
    while world.step < steps:
        world = simulation.advance(world)
    return world


def kept(folder: Path, run: Run, *steps: int) -> list[Path]:
    """Checkpoints of a run's worlds after so many steps, which are those at the start but for the count."""
    start = world_after(run, 0)
    return [save(folder, replace(start, step=step), origin(run), 1.5) for step in steps]


def newest(folder: Path, run: Run, **how: Any) -> Checkpoint | None:
    return latest(folder, origin(run), layout_of(run), **how)
