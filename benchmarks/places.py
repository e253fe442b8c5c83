"""What two places cost beside one, in turns: `python -m benchmarks.places [ROUNDS [GRAPH]]`.

The local backend on two threads beside two processes, and two Ray actors, of one thread each. Starting up is left out:
a place is timed from its 100th step on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from dsgd.backends import Backend
from dsgd.backends.local import LocalBackend
from dsgd.backends.processes import ProcessesBackend
from dsgd.backends.ray_actors import RayBackend
from dsgd.metrics import Values
from dsgd.run import Run
from dsgd.threads import torch_threads

from .workloads import Workload

if TYPE_CHECKING:
    from torch import Tensor

STEPS, WARM_UP = 700, 100
BACKENDS: dict[str, Backend] = {"local": LocalBackend("cpu"), "processes": ProcessesBackend(2), "ray": RayBackend(2)}


class Pace:
    """An observer that notes when how many steps were done."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, float]] = []

    def stepped(self, step: int) -> None:
        if step >= WARM_UP:
            self.noted.append((step, time.perf_counter()))

    def measured(self, row: Values) -> None:
        """Nothing: nothing is measured."""

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: nothing is recorded."""

    def event(self, event: str, **details: object) -> None:
        raise RuntimeError(f"{event}: {details}")

    def steps_a_second(self) -> float:
        (first, began), (last, ended) = self.noted[0], self.noted[-1]
        return (last - first) / (ended - began)


def paces(run: Run, rounds: int) -> dict[str, list[float]]:
    """Replica-steps a second of each backend, in so many rounds."""
    found: dict[str, list[float]] = {name: [] for name in BACKENDS}
    for _ in range(rounds):
        for name, backend in BACKENDS.items():
            pace = Pace()
            with torch_threads(2):
                backend.train(run, (pace,))
            found[name].append(run.n * pace.steps_a_second())
    return found


if __name__ == "__main__":
    rounds, graph = (*sys.argv[1:], *("5", "ring")[len(sys.argv) - 1 :])
    run = replace(Workload(graph=graph).run(), steps=STEPS)
    found = paces(run, int(rounds))
    for name, values in found.items():
        ratios = [value / local for value, local in zip(values, found["local"], strict=True)]
        print(f"{name:9} {median(values):6.0f} replica-steps/s ({min(values):.0f} to {max(values):.0f}), ", end="")
        print(f"{median(ratios):.2f} of local ({min(ratios):.2f} to {max(ratios):.2f})")
