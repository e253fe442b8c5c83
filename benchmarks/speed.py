"""How long a step takes: ours, the loops that others write, one centralised step, and the floor under them all.

All contenders of a workload take turns in one process, so that a machine that slows down slows them all; medians and
their ratios are what counts. The floor is the gradient kernels of n replicas at the local batch, alone, plus three
passes over the ensemble: reading what is mixed, reading the gradient, writing the result. A pass is half a measured
copy of the (n, d) matrix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from statistics import median, quantiles
from typing import Any

import torch

from dsgd.backends.local import keep_freed_memory
from dsgd.communicators import Local
from dsgd.simulation import Simulation
from dsgd.threads import side_by_side, torch_threads

from .loops import centralised, papers_loop, sparse_loop
from .workloads import Step, Workload

WARM_UP, LEAST = 3, 7  # rounds
MOST_MODULES = 64  # above, a loop over modules takes seconds a step

Contenders = Callable[[Workload, Simulation], Mapping[str, Step]]


def simulation_of(workload: Workload, device: str = "cpu", **changes: Any) -> Simulation:
    run = replace(workload.run(), **changes)
    return Simulation(run, Local(run.n), torch.device(device))


def contenders(workload: Workload, simulation: Simulation) -> dict[str, Step]:
    """Each contender's step by name, all on the same examples."""
    params, batch = simulation.start().ensemble.params, simulation.feed.batch(0)
    copied = torch.empty_like(params.matrix)
    found: dict[str, Step] = {
        "ours": advancing(simulation),
        "without gossip": advancing(simulation_of(workload, simulation.train.x.device.type, local_steps=10**9)),
        "kernels": lambda: batch.loss_and_grad(params),
        "copy": lambda: copied.copy_(params.matrix),
        "centralised": centralised(simulation),
    }
    if workload.n <= MOST_MODULES:
        found |= {"paper's loop": papers_loop(simulation), "sparse loop": sparse_loop(simulation)}
    return found


def advancing(simulation: Simulation) -> Step:
    """Our step, again and again."""
    world = simulation.start()

    def step() -> None:
        nonlocal world
        with side_by_side(torch.get_num_threads()):
            world = simulation.advance(world)

    return step


def timed(steps: Mapping[str, Step], seconds: float, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of each step's calls in turn, for about `seconds` in all."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    began, rounds = time.perf_counter(), 0
    while rounds < WARM_UP + LEAST or time.perf_counter() - began < seconds:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if rounds >= WARM_UP:
                taken[name].append(time.perf_counter() - start)
        rounds += 1
    return taken


def measured(
    workload: Workload, seconds: float = 10.0, device: str = "cpu", others: Contenders = lambda *_: {}
) -> dict[str, Any]:
    """Median seconds a step of each contender with their quartiles, and the ratios that follow."""
    keep_freed_memory()
    with torch_threads(workload.threads):
        simulation = simulation_of(workload, device)
        steps = contenders(workload, simulation) | dict(others(workload, simulation))
        taken = timed(steps, seconds, device)
    medians = {name: median(values) for name, values in taken.items()}
    return {
        **asdict(workload),
        "d": simulation.network.layout.d,
        "kernels": simulation.network.way,
        "rounds": len(taken["ours"]),
        "seconds": medians,
        "quartiles": {name: quantiles(values, n=4)[::2] for name, values in taken.items()},
        **_ratios(workload.n, medians),
    }


def _ratios(n: int, medians: Mapping[str, float]) -> dict[str, Any]:
    ours, floor = medians["ours"], medians["kernels"] + 1.5 * medians["copy"]
    rest = ("ours", "without gossip", "kernels", "copy", "centralised")
    return {
        "floor": floor,
        "over_floor": ours / floor,
        "over_centralised": ours / medians["centralised"],
        "gossip_share": 1 - medians["without gossip"] / ours,
        "times_faster_than": {name: value / ours for name, value in medians.items() if name not in rest},
        "replica_steps_per_second": n / ours,
    }
