"""All replicas in this process, as one stacked ensemble."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.communicators import Local
from dsgd.loop import Observer, Result, Simulation, simulate
from dsgd.run import Run

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class LocalBackend:
    """One process, no server; `device` auto is the GPU where there is one."""

    device: str = "auto"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise ValueError(f"device is {self.device}; allowed are {', '.join(DEVICES)}")

    def train(self, run: Run, observers: Iterable[Observer] = ()) -> Result:
        return simulate(run, Simulation(run, Local(run.n), self.torch_device()), observers)

    def torch_device(self) -> torch.device:
        """The device; ValueError where cuda is asked for and there is none."""
        import torch

        available = torch.cuda.is_available()
        if self.device == "cuda" and not available:
            raise ValueError("device is cuda, but torch sees no GPU here; take auto or cpu")
        return torch.device("cuda" if available and self.device != "cpu" else "cpu")
