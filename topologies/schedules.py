"""Who talks to whom at each step: schedules are frozen values, `schedule(step) -> W_t`, with `n` and `period`.

A random W_t is a keyed function of (seed, step): the same step gives the same matrix whatever was asked before, so a
restart needs no generator state. `period` is the number of steps (1, 2, ...) after which the matrices repeat, or None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from topologies.arguments import KnobError, whole_number
from topologies.matrices import Identity, Mean, MixingMatrix, Permutation, Sparse
from topologies.randomness import generator
from topologies.sizes import check_size
from topologies.topology import Topology, cached_by_content


class Schedule(Protocol):
    """step -> mixing matrix of `n` replicas."""

    @property
    def n(self) -> int: ...

    @property
    def period(self) -> int | None: ...

    def __call__(self, step: int) -> MixingMatrix: ...


@dataclass(frozen=True)
class Static:
    """The same W at every step."""

    topology: Topology

    @property
    def n(self) -> int:
        return self.topology.n

    @property
    def period(self) -> int:
        return 1

    def __call__(self, step: int) -> MixingMatrix:
        return self.topology.matrix()


@dataclass(frozen=True)
class OnePeerExponential:
    """One edge of the exponential graph a step: w_i <- (w_i + w_{i + 2^k mod n}) / 2, k = step mod ceil(log2 n).

    For n a power of two, log2 n steps average exactly. Ying et al. 2021, arXiv 2110.13363, equation (8).

    >>> schedule = OnePeerExponential(8)
    >>> product = schedule(2).sparse() @ schedule(1).sparse() @ schedule(0).sparse()
    >>> bool((product.toarray() == 1 / 8).all())
    True
    """

    n: int

    def __post_init__(self) -> None:
        check_size("one_peer_exponential", self.n)

    @property
    def period(self) -> int:
        return max(1, (self.n - 1).bit_length())

    def __call__(self, step: int) -> MixingMatrix:
        if self.n == 1:
            return Identity(1)
        return Permutation((np.arange(self.n) + 2 ** (step % self.period)) % self.n)


@dataclass(frozen=True)
class RandomMatching:
    """A fresh random maximal matching of the graph's edges each step; matched pairs average, the others keep theirs.

    On the complete graph it is a uniform perfect matching (one replica rests where n is odd), drawn in O(n). The
    topology's weights play no part. Boyd et al. 2006, "Randomized gossip algorithms", with all pairs at once.
    Raises a ValueError on a directed graph when called.
    """

    topology: Topology
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("seed", self.seed)

    @property
    def n(self) -> int:
        return self.topology.n

    @property
    def period(self) -> None:
        return None

    def __call__(self, step: int) -> MixingMatrix:
        stream = generator(self.seed, "matching", step)
        if self.topology.graph == "complete":
            order = stream.permutation(self.n)
            pairs = order[: self.n // 2 * 2].reshape(-1, 2)
        else:
            edges = _edges(self.topology)
            pairs = maximal_matching(edges[stream.permutation(len(edges))], self.n)
        partner = np.arange(self.n)
        partner[pairs] = pairs[:, ::-1]
        return Permutation(partner)


@dataclass(frozen=True)
class Permuted:
    """The nodes change places at random each step: W_t = Q^T W Q with the same random permutation Q on both sides.

    A relabelling, so the spectrum is W's at every step. The released code of Zhu et al. 2023 (arXiv 2306.02913) draws
    two independent permutations, which keeps neither the diagonal nor the symmetry.
    """

    topology: Topology
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("seed", self.seed)

    @property
    def n(self) -> int:
        return self.topology.n

    @property
    def period(self) -> int | None:
        return 1 if isinstance(self.topology.matrix(), Mean | Identity) else None

    def __call__(self, step: int) -> MixingMatrix:
        W = self.topology.matrix()
        if isinstance(W, Mean | Identity):
            return W
        order = generator(self.seed, "permuted", step).permutation(self.n)
        return Sparse(W.sparse()[order][:, order])


@dataclass(frozen=True)
class Periodic:
    """Gossip at the end of every `every` steps, nothing in between: Local SGD's schedule.

    W_t = inner(step // every) where (step + 1) mod every = 0, else the identity.
    """

    inner: Schedule
    every: int

    def __post_init__(self) -> None:
        whole_number("every", self.every, least=1)

    @property
    def n(self) -> int:
        return self.inner.n

    @property
    def period(self) -> int | None:
        return None if self.inner.period is None else self.inner.period * self.every

    def __call__(self, step: int) -> MixingMatrix:
        return self.inner(step // self.every) if (step + 1) % self.every == 0 else Identity(self.n)


SCHEDULES: dict[str, type] = {
    "static": Static,
    "one_peer_exponential": OnePeerExponential,
    "random_matching": RandomMatching,
    "permuted": Permuted,
    "periodic": Periodic,
}


def maximal_matching(edges: np.ndarray, n: int) -> np.ndarray:
    """The edges, shape (pairs, 2), taken by going through `edges`, shape (edges, 2), in order and keeping those free.

    In rounds rather than one by one: an edge that is the first left at both its nodes is kept, its neighbours dropped.
    """
    kept = [edges[:0]]
    while len(edges):
        rank = np.arange(len(edges))
        first = np.full(n, len(edges))
        np.minimum.at(first, edges, rank[:, None])
        chosen = edges[(first[edges] == rank[:, None]).all(axis=1)]
        taken = np.zeros(n, dtype=bool)
        taken[chosen] = True
        kept.append(chosen)
        edges = edges[~taken[edges].any(axis=1)]
    return np.concatenate(kept)


@cached_by_content
def _edges(topology: Topology) -> np.ndarray:
    graph = topology.graph_object()
    if graph.is_directed():
        raise KnobError(
            "graph",
            f"random_matching pairs replicas both ways, and the graph {topology.graph} is directed: take an undirected "
            f"graph, or another schedule",
        )
    return np.array(graph.edges, dtype=np.int64).reshape(-1, 2)
