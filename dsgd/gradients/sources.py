"""Where the covariance Xi of the paper's average-direction SAM comes from: one source a class.

The replicas beside which the method runs; the recorded snapshots of an earlier run; or the linear theory's stationary
value lr^2 Sigma S(P), Sigma the covariance of the mini-batch gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dsgd.objectives import Objective
from dsgd.perturbations import Cloud, Noise, cloud
from dsgd.snapshots import read_snapshot, snapshot_path, snapshot_steps
from dsgd.state import When
from dsgd.trees import Layout, Params
from topologies import Topology, stationary_consensus
from topologies.spectral import Order

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Gaussian(Protocol):
    """N(0, Xi) as `offsets(coefficients)`: (rows, size) standard normal numbers to (rows, d)."""

    @property
    def size(self) -> int: ...
    def offsets(self, coefficients: Tensor) -> Tensor: ...


class Source(Protocol):
    """Where Xi(t) comes from; None while there is no perturbation yet."""

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None: ...


@dataclass(frozen=True)
class Replicas:
    """The covariance of the replicas of the D-SGD ensemble at this very step."""

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None:
        if noise.cloud is None:
            raise ValueError("the source replicas needs the ensemble's replicas, and was given none")
        return noise.cloud()


@dataclass(frozen=True)
class Replay:
    """The covariance of a recorded run's replicas: its latest snapshot that is not newer than the step."""

    run: str

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError(f"{self.run} holds no snapshots; record a run with snapshot_every set and name its folder")

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """The steps after which the run was recorded, ascending."""
        return tuple(snapshot_steps(Path(self.run)))

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None:
        past = [step for step in self.steps if step <= at.step]
        if not past:
            return None
        path = snapshot_path(Path(self.run), past[-1])
        return _recorded(path, path.stat().st_mtime_ns, p.layout, p.matrix.dtype, p.matrix.device)

    def files(self) -> tuple[Path, ...]:
        """The recorded snapshots: part of what decides a result."""
        return tuple(snapshot_path(Path(self.run), step) for step in self.steps)


@lru_cache(maxsize=2)
def _recorded(path: Path, written: int, layout: Layout, dtype: torch.dtype, device: torch.device) -> Cloud:
    """The recorded cloud, kept with its axes for the steps until the next; `written` is the file's time."""
    return cloud(read_snapshot(path, layout).matrix.to(device, dtype))


@dataclass(frozen=True)
class Stationary:
    """Xi = lr^2 Sigma S(P): the stationary cloud of `n` replicas on a graph, Sigma the gradient noise at `batch_size`.

    Sigma is estimated on the very mini-batch: a sample of N(0, Sigma) is one gradient of randomly weighted losses.
    """

    graph: str = "ring"
    n: int = 16
    weights: str = "auto"
    order: Order = "consensus"
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1, the mini-batch of one replica")
        if not math.isfinite(self.consensus):
            raise ValueError(f"S(P) of {self.graph} with n = {self.n} is infinite; take a connected graph")

    @property
    def topology(self) -> Topology:
        return Topology(self.graph, self.n, self.weights)

    @cached_property
    def consensus(self) -> float:
        """S(P), the stationary Tr Xi / (lr^2 sigma^2)."""
        return stationary_consensus(self.topology.matrix(), self.order)

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None:
        return GradientNoise(objective, p, at.lr * math.sqrt(self.consensus / self.batch_size))

    def files(self) -> tuple[Path, ...]:
        """The files of the graph and its weights, if it is read from any."""
        return self.topology.files()


@dataclass(frozen=True)
class GradientNoise:
    """N(0, scale^2 Sigma_1), Sigma_1 the covariance of per-example gradients on the mini-batch of `objective` at p.

    The mini-batch has at least two examples.
    """

    objective: Objective
    p: Params
    scale: float

    @property
    def size(self) -> int:
        return self.objective.y.shape[-1]

    def offsets(self, coefficients: Tensor) -> Tensor:
        centred = coefficients - coefficients.mean(dim=1, keepdim=True)
        weights = centred.to(self.p.matrix) * (self.scale / math.sqrt(self.size - 1))
        return self.objective.loss_and_grad(self.p, weights)[1].matrix


SOURCES: dict[str, type[Source]] = {"replicas": Replicas, "replay": Replay, "stationary": Stationary}
