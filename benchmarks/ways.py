"""What each fast path is worth beside what it replaces, in turns in one process: `python -m benchmarks.ways`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from dsgd.backends.local import keep_freed_memory
from dsgd.communicators import Local
from dsgd.data import Xor
from dsgd.gradients.sam import Sam
from dsgd.mixing import Way, neighbours, operator_by
from dsgd.models import TwoLayer
from dsgd.objectives import Batch
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from dsgd.threads import torch_threads
from dsgd.trees import Scaled
from topologies import Static, Topology

from .speed import simulation_of, timed
from .workloads import LR, Step, Workload

SECONDS = 3.0  # for each comparison
MIXING: tuple[Way, ...] = ("sparse", "by_rows", "compiled") if find_spec("numba") else ("sparse", "by_rows")


class Comparison(NamedTuple):
    """Ways to do the same thing, by name; the first is what the others replace."""

    title: str
    steps: Mapping[str, Step]


def comparisons() -> Iterator[Comparison]:
    """Every comparison, made ready one after another."""
    for n in (16, 64, 256):
        simulation = simulation_of(Workload(n=n))
        yield Comparison(f"gradients, MLP, n = {n}", _gradients(simulation, "vmapped", "stacked"))
        yield Comparison(f"W p - lr g, ring, n = {n}", _mixing(simulation, *MIXING))
    for model in ("cnn", "resnet8"):
        simulation = simulation_of(Workload(model))
        yield Comparison(f"gradients, {model}, n = 16", _gradients(simulation, "vmapped", "in_turn"))
    yield Comparison("rows of the data, n = 64", _rows(simulation_of(Workload(n=64))))
    yield Comparison("SAM of one example, two layers of width 500, n = 10", _sam("vmapped", "stacked", "two_layer"))


def _gradients(simulation: Simulation, *ways: str) -> dict[str, Step]:
    batch, params = simulation.feed.batch(0), simulation.start().ensemble.params

    def taken(way: str) -> Step:
        taken = Batch(replace(batch.network, way=way), batch.x, batch.y)
        return lambda: taken.loss_and_grad(params)[1].matrix

    return {way: taken(way) for way in ways}


def _mixing(simulation: Simulation, *ways: Way) -> dict[str, Step]:
    params = simulation.start().ensemble.params
    plus = Scaled(params.like(torch.randn_like(params.matrix)), -LR)
    w = neighbours(simulation.mixing_matrix(0))

    def taken(way: Way) -> Step:
        mix = operator_by(w, params.matrix, way)
        return lambda: mix(params.matrix, plus)

    return {way: taken(way) for way in ways}


def _rows(simulation: Simulation) -> dict[str, Step]:
    x, indices = simulation.train.x, torch.from_numpy(simulation.feed.sampler.indices(0))

    def selected() -> Tensor:
        return x.index_select(0, indices.flatten()).view(*indices.shape, *x.shape[1:])

    return {"indexing": lambda: x[indices], "index_select": selected}


def _sam(*ways: str) -> dict[str, Step]:
    """SAM's gradients at one example a replica: of the two-layer network under the squared error."""
    model, topology = TwoLayer(500, head_bias=False), Static(Topology("ring", 10))
    run = Run(Task(Xor()), model, topology, batch_size=1, gradient=Sam(), metrics=())
    simulation = Simulation(run, Local(run.n), torch.device("cpu"))
    batch, params = simulation.feed.batch(0), simulation.start().ensemble.params
    noise = simulation.noise(0, params)

    def taken(way: str) -> Step:
        taken = Batch(replace(batch.network, way=way), batch.x, batch.y)
        return lambda: run.gradient.estimate(taken, params, noise, {}, run.when(0))

    return {way: taken(way) for way in ways}


def main() -> None:
    """Prints a line a comparison: the median milliseconds of each way on one thread."""
    keep_freed_memory()
    with torch_threads(1):
        for title, steps in comparisons():
            medians = {name: 1e3 * median(taken) for name, taken in timed(steps, SECONDS).items()}
            print(f"{title}: {', '.join(f'{name} {value:.2f} ms' for name, value in medians.items())}", flush=True)


if __name__ == "__main__":
    main()
