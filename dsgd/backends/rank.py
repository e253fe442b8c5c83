"""One place of a run: it holds a block of the replicas and trains them in a thread, while its owner asks how far it is.

The same code runs in a process of this machine and in an actor of a Ray cluster. It writes no files: all that it
measures, records or keeps travels to its owner with the next report.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Literal

from dsgd.communicators import Distributed, PeerLost
from dsgd.communicators.plans import Blocks
from dsgd.divergence import Diverged
from dsgd.fingerprint import data_digest
from dsgd.loop import Result, Stopped, simulate
from dsgd.metrics import Values
from dsgd.run import Run
from dsgd.simulation import Simulation, World
from dsgd.snapshots import own_leaves
from dsgd.state import State, mapped

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

    from dsgd.communicators import Transport
    from dsgd.plugins import Plugin

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


class VersionError(RuntimeError):
    """Two places, or a place and its owner, would not compute the same numbers."""


class Sitting:
    """One training in a place: how far it is, what is new, whether it is to stop, and how it ended."""

    def __init__(self) -> None:
        self.lock, self.stopping = Lock(), Event()
        self.step = 0
        self.news: list[tuple[str, tuple[Any, ...]]] = []
        self.outcome: Outcome | None = None

    def tell(self, method: str, *arguments: Any) -> None:
        with self.lock:
            self.news.append((method, arguments))

    def end(self, outcome: Outcome) -> None:
        with self.lock:
            self.outcome = outcome

    def report(self) -> Report:
        with self.lock:
            news, self.news = tuple(self.news), []
            return Report(self.step, news, self.outcome)


class Rank:
    """A place. Its methods return at once; the training goes on in a thread of its own."""

    def __init__(self) -> None:
        self._sitting = Sitting()
        self._store: Store | None = None

    def hello(self) -> Hello:
        return hello()

    def know(self, plugins: Sequence[Plugin]) -> None:
        """Nothing more: the user's files were run as they arrived, and their classes are known."""

    def data_digest(self, run: Run) -> str:
        """Of the data and files that the run reads here."""
        return data_digest(run)

    def open_store(self, host: str, timeout: float) -> int:
        """Serves the store at which the places find each other; returns its port."""
        from dsgd.communicators.transports import listening_store

        self._store, port = listening_store(host, timeout)
        return port

    def begin(self, job: Job, me: int, host: str, store: tuple[str, int], world: World | None) -> None:
        """Trains as place `me`, listening on the address `host`, from the start or from a whole world."""
        self._sitting = Sitting()
        Thread(target=train, args=(self._sitting, job, me, host, self._store or store, world), daemon=True).start()
        self._store = None

    def report(self) -> Report:
        return self._sitting.report()

    def stop(self) -> None:
        """Asks for an end: all places take the same step as their last, and the leading one keeps the world."""
        self._sitting.stopping.set()


def train(sitting: Sitting, job: Job, me: int, host: str, meeting: Any, world: World | None) -> None:
    """Trains, and ends the sitting with the outcome."""
    try:
        result = _trained(sitting, job, me, host, meeting, world)
        sitting.end(Outcome("done", result=replace(result, params=own_leaves(result.params))))
    except Stopped as stopped:
        sitting.end(Outcome("stopped", step=stopped.step))
    except Diverged as error:
        sitting.end(Outcome("diverged", str(error), error.step))
    except PeerLost as error:
        sitting.end(Outcome("peer_lost", str(error)))
    except BaseException as error:
        sitting.end(Outcome("failed", f"{type(error).__name__}: {error}"))


def _trained(sitting: Sitting, job: Job, me: int, host: str, meeting: Any, world: World | None) -> Result:
    import torch

    from dsgd.backends.local import keep_freed_memory, threads_for
    from dsgd.threads import side_by_side

    torch.set_num_threads(job.threads)
    keep_freed_memory()
    device = device_of(job, me)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    job.run.task.data.load()
    transport = _transport(job, me, host, meeting, device)
    simulation = Simulation(job.run, Distributed(job.blocks, transport, job.patience), device)
    with side_by_side(threads_for(simulation.multiplications)):
        return simulate(simulation, (_Teller(sitting),), world, _Keeper(sitting, job.keep_every))


def _transport(job: Job, me: int, host: str, meeting: Any, device: Any) -> Transport:
    """Made once all places are ready, so that a slow start is not taken for a loss."""
    from datetime import timedelta

    from dsgd.communicators.transports import Collective, Gloo, store_at

    store: Store = store_at(meeting[0], meeting[1], job.timeout) if isinstance(meeting, tuple) else meeting
    store.set(f"ready {me}", "")
    try:
        store.wait([f"ready {k}" for k in range(len(job.blocks))], timedelta(seconds=job.start_timeout))
    except RuntimeError as error:
        raise PeerLost(f"not all {len(job.blocks)} places were ready within {job.start_timeout:g} s") from error
    if job.carrier == "gloo":
        return Gloo(store, me, len(job.blocks), host, job.timeout)
    import torch.distributed as dist

    limit, size = timedelta(seconds=job.timeout), len(job.blocks)
    dist.init_process_group("nccl", store=store, rank=me, world_size=size, timeout=limit, device_id=device)
    return Collective(device, store)


class _Teller:
    """An observer that puts what it is told into the next report."""

    def __init__(self, sitting: Sitting) -> None:
        self.sitting = sitting

    def stepped(self, step: int) -> None:
        self.sitting.step = step

    def measured(self, row: Values) -> None:
        self.sitting.tell("measured", row)

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        self.sitting.tell("snapshotted", step, own_leaves(params))

    def event(self, event: str, **details: object) -> None:
        """Nothing: a rank's events are its owner's to tell."""


class _Keeper:
    """A keeper that leaves the keeping to the rank's owner."""

    def __init__(self, sitting: Sitting, every: int) -> None:
        self.sitting, self.every = sitting, every

    def keep(self, world: World) -> None:
        def on_cpu(state: State) -> State:
            return mapped(state, lambda tensor: tensor.cpu())

        twins = {name: on_cpu(twin) for name, twin in world.twins.items()}
        self.sitting.tell("keep", replace(world, ensemble=on_cpu(world.ensemble), twins=twins))

    def stopping(self) -> bool:
        return self.sitting.stopping.is_set()


def device_of(job: Job, me: int) -> Any:
    """The place's device: the GPU that it was given, by its number where it sees several."""
    import torch

    if job.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", me % torch.cuda.device_count())


def versions() -> dict[str, str]:
    """What must be the same in all places of a run, for its numbers to be those of one."""
    from dsgd import results
    from dsgd.fingerprint import source_digest, torch_series

    packages = {name: results.versions()[name] or "none" for name in ("numpy", "scipy", "networkx", "numba")}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"dsgd's sources": source_digest()[:12], "torch": torch_series(), "python": python, **packages}


def hello() -> Hello:
    """Who this process is."""
    return Hello(os.getpid(), socket.gethostname(), versions())


def check_versions(hellos: Sequence[Hello]) -> None:
    """VersionError where they would not compute the same, naming two that differ."""
    first = hellos[0]
    for other in hellos[1:]:
        for what, version in first.versions.items():
            if other.versions.get(what) != version:
                raise VersionError(
                    f"{what} differ: {version} on {first.node}, {other.versions.get(what)} on {other.node}; "
                    "install the same on all nodes"
                )
