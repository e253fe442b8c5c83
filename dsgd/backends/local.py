"""All replicas in this process, as one stacked ensemble."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dsgd.backends.devices import check_device, torch_device
from dsgd.communicators import Local
from dsgd.divergence import Diverged
from dsgd.loop import Keeper, Observer, Result, simulate
from dsgd.packs import Pack, packs, simulate_pack
from dsgd.run import Run
from dsgd.simulation import Simulation, World
from dsgd.threads import side_by_side

if TYPE_CHECKING:
    import torch

SMALL_STEP = 10**8  # multiplications; below, threads wait for each other longer than they compute
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


@dataclass(frozen=True)
class LocalBackend:
    """One process, no server; `device` auto is the GPU where there is one."""

    device: str = "auto"

    def __post_init__(self) -> None:
        check_device(self.device)

    def train(
        self,
        run: Run,
        observers: Iterable[Observer] = (),
        world: World | None = None,
        keeper: Keeper | None = None,
    ) -> Result:
        keep_freed_memory()
        simulation = Simulation(run, Local(run.n), self.torch_device())
        with side_by_side(threads_for(simulation.multiplications)):
            return simulate(simulation, observers, world, keeper)

    def packs(self, runs: Sequence[Run]) -> list[list[int]]:
        """The places of runs that are quicker together than one after another."""
        return packs(runs)

    def train_pack(self, runs: Sequence[Run], observers: Sequence[Sequence[Observer]]) -> list[Result | Diverged]:
        """The results of one of the `packs`, as if each run were alone; how it ended for one that diverged."""
        keep_freed_memory()
        pack = Pack(runs, self.torch_device())
        work = sum(simulation.multiplications for simulation in pack.simulations)
        with side_by_side(threads_for(work)):
            return simulate_pack(pack, observers)

    def torch_device(self) -> torch.device:
        """The device; ValueError where cuda is asked for and there is none."""
        return torch_device(self.device)


def threads_for(multiplications: int) -> int:
    """One thread for a small step, else as many as torch has; by this fixed rule and never by a timing."""
    import torch

    return 1 if multiplications < SMALL_STEP else torch.get_num_threads()


@cache
def keep_freed_memory() -> None:
    """Asks the C library to keep what is freed for what is allocated next, where it is glibc; for the process's life.

    A step makes and drops matrices of the ensemble's size. Got anew from the system, each page of them would be cleared
    at first touch, which takes longer than computing what is written there.
    """
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
