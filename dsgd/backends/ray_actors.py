"""Replicas in the actors of a Ray cluster: Ray places and watches them, torch.distributed carries the gossip."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dsgd.backends.devices import check_device
from dsgd.backends.processes import check_count, check_terms
from dsgd.backends.rank import Rank
from dsgd.backends.ray_cluster import check_address, check_head, connected, head_answers
from dsgd.backends.ray_tasks import spread
from dsgd.backends.recordings import Recorded
from dsgd.backends.supervision import BackendError, Place, PlaceLost, Terms, supervise
from dsgd.knobs import check_least
from dsgd.loop import Keeper, Observer, Result
from dsgd.packs import packs
from dsgd.run import Run
from dsgd.simulation import World, check

Placement = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]
SHORTEST_WAIT = 1.0  # seconds for Ray to place actors for which there is room
SECONDS_TO_START, SECONDS_TO_KILL = 120.0, 5.0
NODE = "ray.io/node-id"  # the label that Ray gives each node


@dataclass(frozen=True)
class RayBackend:
    """`actors` actors share the replicas out (0: as many as there is room for), each with `cpus` cores and `gpus` GPUs.

    `address` is that of a running cluster (host:port, or auto for the one on this machine); local starts one for the
    run, here. `gpus` 0 takes one GPU an actor if the cluster has that many, else an equal share. `placement` is how Ray
    lays the actors out over nodes. A place silent for `timeout` seconds is lost; the run goes on from the world kept
    last, at most `restarts` times, with fewer actors if after `wait` seconds there is no room for all.
    With `straggler_timeout` one that is late by so many seconds is left out of a gossip with neighbours; 0 waits for
    it, as all do where they must agree: in means over all, under quarantine, when measuring, and at every eighth step.
    """

    actors: int = 0
    address: str = "local"
    device: str = "auto"
    cpus: float = 1
    gpus: float = 0
    placement: Placement = "PACK"
    timeout: float = 30.0
    restarts: int = 3
    straggler_timeout: float = 0
    wait: float = 10.0
    insecure_cluster: bool = False

    def __post_init__(self) -> None:
        check_device(self.device)
        check_terms(self)
        check_address(self.address)
        if not self.cpus > 0:
            raise ValueError(f"cpus is {self.cpus}; it must be above 0")
        check_least(self, gpus=0, wait=0)

    def check(self, run: Run) -> None:
        """ValueError where the run cannot be shared out so."""
        check_count(self.actors, run.n)

    def train(
        self,
        run: Run,
        observers: Iterable[Observer] = (),
        world: World | None = None,
        keeper: Keeper | None = None,
    ) -> Result:
        self.check(run)
        check(run)
        with connected(self.address, self.insecure_cluster, self.actors * self.cpus):
            gpus = self._gpus()
            fleet = Actors(Needs(self.cpus, gpus, self.placement, self.wait))
            terms = Terms(
                self.actors or max(1, min(run.n, fleet.room())),
                device="cuda" if gpus else "cpu",
                carrier="nccl" if gpus >= 1 else "gloo",
                threads=max(1, int(self.cpus)),
                timeout=self.timeout,
                restarts=self.restarts,
                patience=self.straggler_timeout or None,
            )
            return supervise(fleet, terms, run, observers, world, keeper)

    @property
    def spreads(self) -> bool:
        """Whether a study's runs go to the cluster whole, a task each, as they do unless each is to have actors."""
        return self.actors == 0

    def packs(self, runs: Sequence[Run]) -> list[list[int]]:
        """The places of runs that one task trains together; alone where each is to have actors."""
        return packs(runs) if self.spreads else [[place] for place in range(len(runs))]

    def spread(self, parts: Sequence[Sequence[Run]]) -> Iterator[tuple[int, list[Recorded]]]:
        """The place of each part and its runs' recordings, as they are done on the cluster."""
        with connected(self.address, self.insecure_cluster, self.cpus):
            yield from spread(parts, self.cpus, self._gpus(), self.restarts)

    def _gpus(self) -> float:
        """GPUs an actor gets."""
        import ray

        if self.device == "cpu":
            return 0
        available = ray.cluster_resources().get("GPU", 0)
        if self.device == "cuda" and not available:
            raise BackendError("device is cuda, but the cluster has no GPU; take auto or cpu")
        return self.gpus or (1 / math.ceil(max(1, self.actors) / available) if available else 0)


@dataclass(frozen=True)
class Needs:
    """What an actor is given, how actors are laid out, and how long to wait for all of them."""

    cpus: float
    gpus: float
    placement: Placement
    wait: float


@dataclass(frozen=True)
class Actors:
    """A fleet of Ray actors, each attempt's in a placement group of their own.

    A node that did not answer when the last attempt was ended is `silent`. The next attempt does without it: Ray may
    take a minute to see that it is cut off, and would place actors there until then.
    """

    needs: Needs
    silent: set[str] = field(default_factory=set)

    @property
    def bundle(self) -> dict[str, float]:
        """The resources of one actor."""
        return {"CPU": self.needs.cpus} | ({"GPU": self.needs.gpus} if self.needs.gpus else {})

    def places(self, count: int, least: int) -> list[Place]:
        """`count` actors, or as many, at least `least`, as there is room for once the wait is over."""
        import ray
        from ray.util.placement_group import placement_group, remove_placement_group

        check_head()
        until, wanted = time.monotonic() + self.needs.wait, count
        elsewhere = {NODE: f"!in({','.join(sorted(self.silent))})"} if self.silent else {}
        self.silent.clear()
        while wanted >= least:
            where = [elsewhere] * wanted if elsewhere else None
            group = placement_group([self.bundle] * wanted, self.needs.placement, bundle_label_selector=where)
            if group.wait(max(SHORTEST_WAIT, until - time.monotonic())):
                return self._actors_in(group, wanted)
            remove_placement_group(group)
            wanted = min(wanted - 1, self.room())
        raise BackendError(
            f"the cluster had no room for {least} actors of {_told(self.bundle)} each ({self.needs.placement}) "
            f"within {self.needs.wait:g} s; its nodes offer {_told(ray.available_resources())} in all; ask for less "
            "(backend.actors, backend.cpus, backend.gpus), or wait longer (backend.wait)"
        )

    def room(self) -> int:
        """How many actors there is room for now."""
        import ray

        free = ray.available_resources()
        return int(min((free.get(name, 0) // amount for name, amount in self.bundle.items() if amount), default=1))

    def _actors_in(self, group: Any, count: int) -> list[Place]:
        """One actor in each bundle of a placement group."""
        import ray
        from ray.util.placement_group import remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        made = ray.remote(RayRank)
        handles = [
            made.options(
                num_cpus=self.needs.cpus,
                num_gpus=self.needs.gpus,
                max_concurrency=2,
                max_restarts=0,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=k),
            ).remote()
            for k in range(count)
        ]
        remove = partial(remove_placement_group, group)
        return [ActorPlace(handle, remove, self.silent.add) for handle in handles]


@dataclass(frozen=True)
class Whereabouts:
    """Where an actor is: the address and Ray's name of its node, and its process there."""

    host: str
    node: str
    pid: int


class RayRank(Rank):
    """A rank that knows where it is."""

    def whereabouts(self) -> Whereabouts:
        import ray

        return Whereabouts(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id(), os.getpid())


class ActorPlace:
    """A rank in a Ray actor; `remove` gives its placement group back, `silent` is told of a node without answer."""

    def __init__(self, handle: Any, remove: Callable[[], None], silent: Callable[[str], None]) -> None:
        self._handle, self._remove, self._silent = handle, remove, silent
        self._at: Whereabouts | None = None
        self._asked_where = self.ask("whereabouts")

    @property
    def host(self) -> str:
        self._at = self._at or self._asked_where(SECONDS_TO_START)
        return self._at.host

    def ask(self, method: str, *arguments: Any) -> Callable[[float], Any]:
        reference = getattr(self._handle, method).remote(*arguments)

        def answered(seconds: float) -> Any:
            import ray
            from ray.exceptions import GetTimeoutError, RayError, RayTaskError

            try:
                return ray.get(reference, timeout=seconds)
            except GetTimeoutError:
                raise PlaceLost(f"{self._name()} did not answer within {seconds:g} s") from None
            except RayTaskError as error:
                raise BackendError(f"{self._name()} failed: {type(error.cause).__name__}: {error.cause}") from error
            except RayError as error:
                raise PlaceLost(f"{self._name()} is gone ({type(error).__name__})") from None

        return answered

    def end(self) -> None:
        """Ends the actor; its process too, which Ray leaves alive where it is frozen."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if not head_answers():
            return
        ray.kill(self._handle, no_restart=True)
        if self._at:
            there = NodeAffinitySchedulingStrategy(self._at.node, soft=False)
            killing = ray.remote(kill).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            killed, _ = ray.wait([killing.remote(self._at.pid)], timeout=SECONDS_TO_KILL)
            if not killed:
                self._silent(self._at.node)
        self._remove()

    def _name(self) -> str:
        actor = f"the actor {self._handle._actor_id.hex()[:8]}"
        return f"{actor} (process {self._at.pid} on {self._at.host})" if self._at else actor


def kill(pid: int) -> None:
    """Ends a frozen actor's process, if it is still one of Ray's."""
    with suppress(OSError):
        if b"RayRank" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _told(resources: dict[str, float]) -> str:
    kinds = {name: amount for name, amount in resources.items() if name in ("CPU", "GPU")}
    return " and ".join(f"{amount:g} {name}" for name, amount in kinds.items()) or "nothing"
