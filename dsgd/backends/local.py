"""All replicas in this process, as one stacked ensemble."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.communicators import Local
from dsgd.loop import Observer, Result, Simulation, simulate
from dsgd.run import Run

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")
SMALL_STEP = 10**8  # multiplications; below, threads wait for each other longer than they compute


@dataclass(frozen=True)
class LocalBackend:
    """One process, no server; `device` auto is the GPU where there is one."""

    device: str = "auto"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device}; allowed are {', '.join(DEVICES)}")

    def train(self, run: Run, observers: Iterable[Observer] = ()) -> Result:
        simulation = Simulation(run, Local(run.n), self.torch_device())
        with threads_for(simulation.multiplications):
            return simulate(simulation, observers)

    def torch_device(self) -> torch.device:
        """The device; ValueError where cuda is asked for and there is none."""
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ValueError("device is cuda, but torch sees no GPU here; take auto or cpu")
        return torch.device("cuda" if available and self.device != "cpu" else "cpu")


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """One thread for a small step, else as many as torch has; by this fixed rule and never by a timing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL_STEP else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
