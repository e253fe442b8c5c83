"""What each gradient method costs beside the plain one, in turns: `python -m benchmarks.methods [NAME...]`.

The bar: the gradients and forward passes that a method takes, at what these cost alone, and 15 % for the rest. The
drawing of noise is timed apart.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from statistics import median

import torch

from dsgd.backends.local import keep_freed_memory
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.tram import Tram
from dsgd.perturbations import cloud
from dsgd.threads import torch_threads

from .speed import advancing, simulation_of, timed
from .workloads import Step, Workload

SECONDS = 6.0  # for each method


@dataclass(frozen=True)
class Cost:
    """A method, and the gradients and forward passes of the mini-batch that a step of it takes."""

    gradient: Gradient
    gradients: int = 2
    forwards: int = 0


METHODS: dict[str, Cost] = {
    **{name: Cost(kind()) for name, kind in GRADIENTS.items()},
    "plain": Cost(Plain(), 1),
    "random_direction": Cost(GRADIENTS["random_direction"](), 1),
    "average_direction": Cost(GRADIENTS["average_direction"](), 1),
    "m_sam": Cost(MSam(m=32)),
    "m_sam, two parts": Cost(MSam(m=16)),
    "imb_sam": Cost(GRADIENTS["imb_sam"](), 3),
    "look_sam": Cost(LookSam(k=1)),
    "look_sam between": Cost(LookSam(k=10**9), 1),
    "tram": Cost(Tram(), 2, 2),
    "tram of inputs": Cost(Tram("input"), 2, 2),
    "tram fisher": Cost(Tram("fisher"), 3),
    "tram fisher, single": Cost(Tram("fisher", single_pass=True), 2),
    "rsgs": Cost(GRADIENTS["rsgs"](), 2, 2),
}


def drawing(n: int, name: str) -> Step | None:
    """The drawing alone of what a method draws in a step; from N(0, Xi) it is n x n numbers times n deviations."""
    simulation = simulation_of(Workload(n=n))
    p, x = simulation.start().ensemble.params, simulation.feed.batch(0).x
    noise = simulation.noise(0, p)
    if name in ("random_direction", "average_direction"):
        return lambda: noise.normal(p.matrix, "direction")
    if name == "weight_diversity":
        z = torch.from_numpy(noise.coefficients(n, "diversity"))
        return lambda: cloud(p.matrix).offsets(z)
    if name in ("tram of inputs", "tram fisher", "tram fisher, single"):
        return lambda: noise.normal(x.new_empty(n, x[0].numel()), "inputs")
    return None


def compared(n: int, name: str) -> str:
    """A line on one method at n replicas."""
    method, plain = METHODS[name], simulation_of(Workload(n=n))
    batch, p = plain.feed.batch(0), plain.start().ensemble.params
    steps = {
        "plain": advancing(plain),
        "method": advancing(simulation_of(Workload(n=n), gradient=method.gradient)),
        "forward": lambda: batch.logits(p),
    }
    if draw := drawing(n, name):
        steps["noise"] = draw
    taken = timed(steps, SECONDS)
    ratio = median(b / a for a, b in zip(taken["plain"], taken["method"], strict=True))
    forward, noise = (median(taken.get(what, [0.0])) / median(taken["plain"]) for what in ("forward", "noise"))
    over = (ratio - noise) / (method.gradients + method.forwards * forward) - 1
    passes = f" and {method.forwards} forward passes" if method.forwards else ""
    noted = f", {noise:.2f} for noise" if draw else ""
    return f"n = {n:3}  {name:20} {ratio:5.2f} plain steps{noted}: {method.gradients} gradients{passes} {over:+.0%}"


if __name__ == "__main__":
    keep_freed_memory()
    with torch_threads(1):
        for n in (16, 64):
            for name in sys.argv[1:] or METHODS:
                print(compared(n, name), flush=True)
