"""One place of a run: it holds a block of the replicas and trains them in a thread, while its owner asks how far it is.

The same code runs in a process of this machine and in an actor of a Ray cluster. It writes no files: all that it
measures, records or keeps travels to its owner with the next report.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Literal

from dsgd.communicators import Distributed, PeerLost
from dsgd.communicators.exchange import Blocks
from dsgd.loop import Result, Stopped, simulate
from dsgd.metrics import Values
from dsgd.run import Run
from dsgd.simulation import Simulation, World

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

    from dsgd.communicators import Transport

Carrier = Literal["gloo", "nccl"]


@dataclass(frozen=True)
class Job:
    """What all places of a run are told: the run, who holds which replicas, and how they talk.

    A peer silent for `timeout` seconds is lost; all places must be ready within `start_timeout`. With `patience` one
    that is late by so many seconds is left out of a gossip. The world is kept every `keep_every` steps; 0: only when
    the run is stopped.
    """

    run: Run
    blocks: Blocks
    device: str
    carrier: Carrier
    threads: int
    timeout: float
    start_timeout: float
    patience: float | None
    keep_every: int


@dataclass(frozen=True)
class Hello:
    """Who a place is: what must be the same in all of them is in `versions`."""

    pid: int
    node: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a place's training ended: done with its result, stopped, diverged, lost a peer, or failed; said in words."""

    kind: Literal["done", "stopped", "diverged", "peer_lost", "failed"]
    sentence: str = ""
    step: int = 0
    result: Result | None = None


@dataclass(frozen=True)
class Report:
    """How far a place is, what is new there since its last report (it says this once), and how it ended if it did.

    `news` are (method, arguments): what an observer is to be told, and `keep` for a keeper.
    """

    step: int
    news: tuple[tuple[str, tuple[Any, ...]], ...]
    outcome: Outcome | None


class Rank:
    """A place. Its methods return at once; the training goes on in a thread of its own."""

    def __init__(self) -> None:
        self._lock, self._stopping = Lock(), Event()
        self._step = 0
        self._news: list[tuple[str, tuple[Any, ...]]] = []
        self._outcome: Outcome | None = None
        self._store: Store | None = None

    def hello(self) -> Hello:
        return Hello(os.getpid(), socket.gethostname(), versions())

    def open_store(self, host: str, timeout: float) -> int:
        """Serves the store at which the places find each other; returns its port."""
        from dsgd.communicators.transports import listening_store

        self._store, port = listening_store(host, timeout)
        return port

    def begin(self, job: Job, me: int, host: str, store: tuple[str, int], world: World | None) -> None:
        """Trains as place `me`, listening on the address `host`, from the start or from a whole world."""
        self._stopping.clear()
        self._step, self._news, self._outcome = 0, [], None
        Thread(target=self._train, args=(job, me, host, store, world), daemon=True).start()

    def report(self) -> Report:
        with self._lock:
            news, self._news = tuple(self._news), []
            return Report(self._step, news, self._outcome)

    def stop(self) -> None:
        """Asks for an end: all places take the same step as their last, and the leading one keeps the world."""
        self._stopping.set()

    def _train(self, job: Job, me: int, host: str, store: tuple[str, int], world: World | None) -> None:
        try:
            outcome = Outcome("done", result=self._trained(job, me, host, store, world))
        except Stopped as stopped:
            outcome = Outcome("stopped", step=stopped.step)
        except FloatingPointError as error:
            outcome = Outcome("diverged", str(error))
        except PeerLost as error:
            outcome = Outcome("peer_lost", str(error))
        except BaseException as error:
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
        with self._lock:
            self._outcome = outcome

    def _trained(self, job: Job, me: int, host: str, store: tuple[str, int], world: World | None) -> Result:
        import torch

        from dsgd.backends.local import keep_freed_memory, threads_for
        from dsgd.threads import side_by_side

        torch.set_num_threads(job.threads)
        keep_freed_memory()
        device = device_of(job, me)
        job.run.task.data.load()
        transport = self._transport(job, me, host, store, device)
        simulation = Simulation(job.run, Distributed(job.blocks, transport, job.patience), device)
        with side_by_side(threads_for(simulation.multiplications)):
            return simulate(simulation, (_Teller(self),), world, _Keeper(self, job.keep_every))

    def _transport(self, job: Job, me: int, host: str, at: tuple[str, int], device: Any) -> Transport:
        """Made once all places are ready, so that a slow start is not taken for a loss."""
        from datetime import timedelta

        from dsgd.communicators.transports import Collective, Gloo, store_at

        store = self._store or store_at(*at, job.timeout)
        store.set(f"ready {me}", "")
        try:
            store.wait([f"ready {k}" for k in range(len(job.blocks))], timedelta(seconds=job.start_timeout))
        except RuntimeError as error:
            raise PeerLost(f"not all {len(job.blocks)} places were ready within {job.start_timeout:g} s") from error
        if job.carrier == "gloo":
            return Gloo(store, me, len(job.blocks), host, job.timeout)
        import torch.distributed as dist

        limit = timedelta(seconds=job.timeout)
        dist.init_process_group("nccl", store=store, rank=me, world_size=len(job.blocks), timeout=limit)
        return Collective(device)

    def _tell(self, method: str, *arguments: Any) -> None:
        with self._lock:
            self._news.append((method, arguments))


class _Teller:
    """An observer that puts what it is told into the next report."""

    def __init__(self, rank: Rank) -> None:
        self.rank = rank

    def stepped(self, step: int) -> None:
        self.rank._step = step

    def measured(self, row: Values) -> None:
        self.rank._tell("measured", row)

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        self.rank._tell("snapshotted", step, {name: leaf.cpu() for name, leaf in params.items()})

    def event(self, event: str, **details: object) -> None:
        """Nothing: a rank's events are its owner's to tell."""


class _Keeper:
    """A keeper that leaves the keeping to the rank's owner."""

    def __init__(self, rank: Rank, every: int) -> None:
        self.rank, self.every = rank, every

    def keep(self, world: World) -> None:
        self.rank._tell("keep", world)

    def stopping(self) -> bool:
        return self.rank._stopping.is_set()


def device_of(job: Job, me: int) -> Any:
    """The place's device: the GPU that it was given, by its number where it sees several."""
    import torch

    if job.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", me % torch.cuda.device_count())


def versions() -> dict[str, str]:
    """What must be the same in all places of a run, for its numbers to be those of one."""
    from dsgd.fingerprint import source_digest, torch_series

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"dsgd's sources": source_digest()[:12], "torch": torch_series(), "python": python}
