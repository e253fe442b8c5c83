"""The paper's average-direction SAM: Zhu et al. 2023, arXiv 2306.02913, theorem 1.

E grad L_B(w + e), e ~ N(0, Xi(t)), is the direction that D-SGD's mean model follows up to third-order terms, with Xi
the covariance of the replicas. Here Xi comes from one of three sources: the ensemble beside which this method runs,
the recorded snapshots of an earlier run, or the linear theory's stationary value lr^2 Sigma S(P).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import topologies
from dsgd.gradients.gradient import Estimate, check_samples, expected
from dsgd.objectives import Objective
from dsgd.perturbations import Cloud, Noise, cloud, degree3
from dsgd.snapshots import read_snapshot, snapshot_path, snapshot_steps
from dsgd.state import Memory, When
from dsgd.trees import Layout, Params
from topologies.spectral import Order

if TYPE_CHECKING:
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
        return noise.cloud() if noise.cloud else None


@dataclass(frozen=True)
class Replay:
    """The covariance of a recorded run's replicas: its latest snapshot that is not newer than the step."""

    run: str

    def __post_init__(self) -> None:
        if not snapshot_steps(Path(self.run)):
            raise ValueError(f"{self.run} holds no snapshots; record a run with snapshot_every set and name its folder")

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None:
        past = [step for step in snapshot_steps(Path(self.run)) if step <= at.step]
        if not past:
            return None
        recorded = _recorded_cloud(self.run, max(past), p.layout)
        return Cloud(recorded.deviations.to(p.matrix))

    def files(self) -> tuple[Path, ...]:
        """The recorded snapshots: part of what decides a result."""
        folder = Path(self.run)
        return tuple(snapshot_path(folder, step) for step in snapshot_steps(folder))


@lru_cache(maxsize=2)
def _recorded_cloud(run: str, step: int, layout: Layout) -> Cloud:
    return cloud(read_snapshot(snapshot_path(Path(run), step), layout).matrix)


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
        _stationary_consensus(self.graph, self.n, self.weights, self.order)

    def gaussian(self, objective: Objective, p: Params, noise: Noise, at: When) -> Gaussian | None:
        s = _stationary_consensus(self.graph, self.n, self.weights, self.order)
        return GradientNoise(objective, p, at.lr * math.sqrt(s / self.batch_size))


@lru_cache
def _stationary_consensus(graph: str, n: int, weights: str, order: Order) -> float:
    s = topologies.stationary_consensus(topologies.Topology(graph, n, weights).matrix(), order)
    if not math.isfinite(s):
        raise ValueError(f"S(P) of {graph} with n = {n} is infinite; take a connected graph")
    return s


@dataclass(frozen=True)
class GradientNoise:
    """N(0, scale^2 Sigma_1), Sigma_1 the covariance of per-example gradients on the mini-batch of `objective` at p."""

    objective: Objective
    p: Params
    scale: float

    @property
    def size(self) -> int:
        return self.objective.y.shape[-1]

    def offsets(self, coefficients: Tensor) -> Tensor:
        centred = coefficients - coefficients.mean(dim=1, keepdim=True)
        weights = centred.to(self.p.matrix) * (self.scale / math.sqrt(max(1, self.size - 1)))
        return self.objective.loss_and_grad(self.p, weights)[1].matrix


@dataclass(frozen=True)
class WeightDiversity:
    """g = E grad L_B(w + e), e ~ N(0, Xi(t)).

    `samples` antithetic pairs +-e; 0 takes the expectation by the degree-3 cubature on the axes of Xi, at twice as
    many points as Xi has rank, exact up to fourth-order terms (not for the source `stationary`).
    """

    source: Source = field(default_factory=Replicas)
    samples: int = 1

    def __post_init__(self) -> None:
        if self.samples:
            check_samples(self.samples)
        elif isinstance(self.source, Stationary):
            raise ValueError("samples is 0, the cubature, which the source stationary does not offer; set at least 1")

    def init(self, p: Params) -> Memory:
        return {}

    def estimate(
        self, objective: Objective, p: Params, buffers: Memory, noise: Noise, memory: Memory, at: When
    ) -> Estimate:
        offsets = list(self._offsets(objective, p, noise, at)) or [p.matrix.new_zeros(1, p.layout.d)]
        return Estimate(*expected(objective, p, offsets, 1 / len(offsets)), buffers, memory)

    def _offsets(self, objective: Objective, p: Params, noise: Noise, at: When) -> Iterator[Tensor]:
        import torch

        gaussian = self.source.gaussian(objective, p, noise, at)
        if gaussian is None:
            return
        if not self.samples and isinstance(gaussian, Cloud):
            yield from cubature_offsets(gaussian)
        for k in range(self.samples):
            z = torch.from_numpy(noise.coefficients(gaussian.size, "diversity", k)).to(p.matrix)
            offset = gaussian.offsets(z)
            yield offset
            yield -offset


def cubature_offsets(gaussian: Cloud) -> Iterator[Tensor]:
    """The points of the degree-3 rule on the axes of Xi, each of shape (1, d); none where Xi is zero."""
    axes = gaussian.axes
    if len(axes):
        yield from (degree3(len(axes), axes).points @ axes).split(1)


SOURCES: dict[str, type[Source]] = {"replicas": Replicas, "replay": Replay, "stationary": Stationary}
