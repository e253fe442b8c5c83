"""Other people's simulators as contenders of `benchmarks.speed`: one round of each, driven by its own parts.

A driver has one function, step(workload, x, y, w). It starts n equal replicas and returns a closure that does one
round, an SGD step of each replica and a gossip with w, and returns the replicas: n lists of their parameters. x, of
shape (n, batch size, ...), and y hold the mini-batch of each replica, the same in every round, so the drawing of
mini-batches, metrics, logs and evaluations cost a peer nothing. `check` compares each driver with the formula.

The peers are not dependencies. They ask for more than a round needs, so install them without it:

    pip install --no-deps gossipy-dfl rich markdown-it-py mdurl pygments
    pip install --no-deps pfl dp-accounting==0.5.1 prv-accountant multiprocess dill 'packaging<26' 'attrs<24' \\
        'absl-py<2' dm-tree wrapt

Without a driver, because it would not be the peer that is measured:

- decent-dp 0.2.3: a worker is a rank of torch.distributed, so n workers are n processes. Its `Topology` lets a worker
  take part in one all-reduce a round, so a ring is pairs that take turns with weights 1/2, never 1/3 of each neighbour.
- Flower (flwr 1.42.0): a node talks to the server alone, and a strategy's `aggregate_train` returns one model. A gossip
  would be a server that keeps all n models, with nodes in Ray actors: no round in one process.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from dsgd.simulation import Simulation

    from ..workloads import Step, Workload

Driver = Callable[["Workload", "Tensor", "Tensor", "np.ndarray"], "Step"]


class Peer(NamedTuple):
    """A driver's module, the packages it imports, and whether it takes the gradient at the mixed model."""

    module: str
    needs: tuple[str, ...]
    mixes_first: bool


PEERS: dict[str, Peer] = {
    "gossipy": Peer("gossipy_dfl", ("gossipy", "rich"), mixes_first=True),
    "pfl": Peer(
        "pfl_research", ("pfl", "dp_accounting", "prv_accountant", "multiprocess", "packaging"), mixes_first=False
    ),
}


def available() -> dict[str, Driver]:
    """The drivers, by peer, of the peers that are installed; imports no other."""
    installed = {name: peer for name, peer in PEERS.items() if all(map(find_spec, peer.needs))}
    return {name: _driver(peer.module) for name, peer in installed.items()}


def contenders(workload: Workload, simulation: Simulation) -> dict[str, Step]:
    """The step of each installed peer, on the simulation's first mini-batches and W; `others` of speed.measured."""
    batch, w = simulation.feed.batch(0), simulation.run.schedule(0).toarray()
    return {name: driver(workload, batch.x, batch.y, w) for name, driver in available().items()}


def _driver(module: str) -> Any:
    return import_module(f"{__name__}.{module}").step
