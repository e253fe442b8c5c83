"""What a run would cost, without training it: its size, and the time of a few steps of it on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dsgd.backends.local import LocalBackend, threads_for
from dsgd.cli.signals import within
from dsgd.communicators import Local
from dsgd.divergence import Diverged
from dsgd.footprint import layout_of, needed
from dsgd.memory import available
from dsgd.pretraining import Scratch
from dsgd.run import PARTS
from dsgd.simulation import MOST_MATRICES, Simulation, World
from dsgd.threads import side_by_side
from dsgd.typography import duration

if TYPE_CHECKING:
    from dsgd.config import Config
    from dsgd.metrics import Metric
    from dsgd.run import Run

SECONDS_FOR_FIRST, SECONDS_FOR_STEPS, SECONDS_FOR_METRICS = 5.0, 0.6, 0.6
MOST_STEPS = 200
UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")


@dataclass
class Timing:
    """Seconds of each thing timed; `step` is None where none was taken in time, metrics not timed are left out."""

    step: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    diverged: str = ""
    bytes_a_step: float | None = None


def estimate(config: Config) -> dict[str, Any]:
    """Parameters, memory, bytes a step, and about how long the run would take, in plain values.

    Takes about a second of trying, five where the first step is slow, and leaves nothing. `seconds` are None where they
    could not be told, and `seconds_note` says why, or what they leave out.
    """
    run = config.run
    has = available(config.backend.torch_device()) if isinstance(config.backend, LocalBackend) else None
    needs = needed(run)
    found: dict[str, Any] = {"parameters": layout_of(run).d, "replicas": run.n}
    found |= {"memory_bytes": needs, "memory_available": has}
    if not isinstance(config.backend, LocalBackend):
        return found | _unknown("timed is only a run in one place, backend=local")
    if has is not None and has < needs:
        return found | _unknown("it needs more memory than there is, and would be refused")
    timing = timed(replace(run, pretraining=Scratch()), config.backend)
    sent = {"bytes_a_step": timing.bytes_a_step}
    if timing.step is None:
        return found | sent | _unknown(timing.diverged or f"the first step takes more than {SECONDS_FOR_FIRST:g} s")
    seconds, left_out = _total(run, timing)
    note = f"without {', '.join(left_out)}, which were not timed" if left_out else ""
    return found | sent | {"seconds_a_step": timing.step, "seconds": seconds, "seconds_note": note}


def _unknown(why: str) -> dict[str, Any]:
    return {"seconds_a_step": None, "seconds": None, "seconds_note": why}


def _total(run: Run, timing: Timing) -> tuple[float, list[str]]:
    """The seconds of the whole run, and what they leave out."""
    counts = {name_of(metric): _times(metric, run) for metric in run.metrics}
    seconds = run.steps * (timing.step or 0.0) + sum(counts[name] * took for name, took in timing.metrics.items())
    left_out = [name for name in counts if name not in timing.metrics]
    return seconds, [*left_out, *([] if isinstance(run.pretraining, Scratch) else ["pretraining"])]


def _times(metric: Metric, run: Run) -> int:
    """How often a run measures it."""
    every = run.measure_every if metric.every is None else metric.every
    return 1 if not every else run.steps // every + 1 + bool(run.steps % every)


def name_of(metric: Metric) -> str:
    return PARTS.get(type(metric), type(metric).__name__)


def timed(run: Run, backend: LocalBackend) -> Timing:
    """The time of a step and of each metric, as far as the seconds for them go.

    The first step is a warm-up, and counts only where there is no time for others.
    """
    timing = Timing()
    simulation = Simulation(run, Local(run.n), backend.torch_device())
    with side_by_side(threads_for(simulation.multiplications)):
        world = [simulation.start()]
        try:
            with within(SECONDS_FOR_FIRST):
                _time_steps(simulation, world, timing, 1)
            if timing.step is not None and _in_time(simulation, world, timing):
                with within(SECONDS_FOR_METRICS):
                    _time_metrics(simulation, world[0], timing)
        except Diverged as error:
            timing.step, timing.diverged = None, f"it diverges: {error}"
    timing.bytes_a_step = bytes_a_step(simulation)
    return timing


def _in_time(simulation: Simulation, world: list[World], timing: Timing) -> bool:
    """Times more steps; False where one was cut short, after which nothing is computed: torch may be in any mode."""
    with within(SECONDS_FOR_FIRST):
        _time_steps(simulation, world, timing, min(MOST_STEPS, simulation.run.steps - 1))
        return True
    return False


def _time_steps(simulation: Simulation, world: list[World], timing: Timing, count: int) -> None:
    """Moves the world in its list on by so many steps while there is time, and notes their mean."""
    began = time.perf_counter()
    for done in range(1, count + 1):
        world[0] = simulation.advance(world[0])
        _finish(simulation)
        timing.step = (time.perf_counter() - began) / done
        if timing.step * done > SECONDS_FOR_STEPS:
            return


def _time_metrics(simulation: Simulation, world: World, timing: Timing) -> None:
    """The often measured ones first."""
    for metric in sorted(simulation.run.metrics, key=lambda metric: -_times(metric, simulation.run)):
        snapshot = simulation.snapshot(world)
        began = time.perf_counter()
        if snapshot is not None:
            metric(snapshot)
            _finish(simulation)
            timing.metrics[name_of(metric)] = time.perf_counter() - began


def _finish(simulation: Simulation) -> None:
    """Waits for what a GPU was given to do."""
    import torch

    if simulation.train.x.is_cuda:
        torch.cuda.synchronize(simulation.train.x.device)


def bytes_a_step(simulation: Simulation) -> float:
    """The mean over the steps in which the schedule comes round, or over the first ones where it does not soon."""
    run = simulation.run
    steps = range(min(run.steps, run.schedule.period or MOST_STEPS, MOST_MATRICES))
    rounds = (run.gossip.plan(run.when(step)).rounds for step in steps)
    sent = [simulation.bytes_of(simulation.mixing_matrix(t), made) for t, made in zip(steps, rounds, strict=True)]
    return sum(sent) / len(sent)


def in_lines(found: dict[str, Any], steps: int) -> dict[str, str]:
    """The estimate for people."""
    sent, there = found.get("bytes_a_step"), found["memory_available"]
    of = "" if there is None else f" of {in_bytes(there)} available"
    lines = {
        "parameters": f"{found['parameters']:,} a replica, {found['parameters'] * found['replicas']:,} in all",
        "memory": f"about {in_bytes(found['memory_bytes'])}{of}",
    }
    if sent is not None:
        lines["sent"] = f"{in_bytes(sent)} a step, {in_bytes(sent * steps)} in all"
    if found["seconds"] is None:
        return lines | {"time": f"not known: {found['seconds_note']}"}
    note = f", {found['seconds_note']}" if found["seconds_note"] else ""
    pace = f"{1 / found['seconds_a_step']:,.4g} steps/s"
    return lines | {"time": f"about {duration(found['seconds'])} here ({pace}{note})"}


def in_bytes(count: float) -> str:
    """1.5 MB, in powers of a thousand."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"
