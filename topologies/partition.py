"""The n replicas parted into blocks, one a process, so that few rows must cross between blocks when W_t is applied.

By recursive bisection in six ways, the cheapest of which is taken: one side is the first nodes by number, breadth first
or depth first, as it is or refined by exchanges (Kernighan and Lin 1970, "An efficient heuristic procedure for
partitioning graphs"). All compute in whole numbers, so that processes on different machines agree on their blocks;
Fiedler's order does not, and depends on the LAPACK where an eigenvalue is double, as a ring's or a hypercube's.

What is first of the cheapest over all GRAPHS at n = 64 in 2, 3, 4 and 8 blocks, as numbered and shuffled, 120 cases:

    by number                33  ring, path, star, complete, barbell as numbered; exponential in 3, 4 and 8
    breadth first            39  ring, path, barbell shuffled; grid, torus, hypercube, exponential_undirected
    depth first               1  binary_tree; with thousands of nodes, where nothing is refined, every one of these
    by number, refined       17  watts_strogatz; random_regular and erdos_renyi in few
    breadth first, refined   19  random_regular; random_geometric and erdos_renyi in many
    depth first, refined     11  binary_tree; some of each random graph
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import networkx as nx
import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, depth_first_order

from topologies.arguments import KnobError, whole_number
from topologies.connectivity import components
from topologies.matrices import Dense, Mean
from topologies.stochasticity import square

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topologies.matrices import AnyMatrix
    from topologies.schedules import Schedule

    Side: TypeAlias = Callable[[csr_array, int], np.ndarray]  # so many nodes of a symmetric pattern

STEPS = 64
REFINED_ENTRIES = 2**14  # networkx refines in Python: up to a second at this size


def blocks(given: Schedule | AnyMatrix, parts: int) -> tuple[tuple[int, ...], ...]:
    """The replicas 0..n-1 in `parts` blocks whose sizes differ by at most one, with few `crossings`.

    Each block ascends, and the blocks are in the order of their smallest members. Where everybody hears everybody (a
    Mean or Dense matrix) they are contiguous. Raises a KnobError unless 1 <= parts <= n.
    """
    steps = _steps(given)
    n = steps[0].shape[-1]
    if whole_number("parts", parts, least=1) > n:
        raise KnobError("parts", f"n = {n} replicas fill at most {n} blocks, not {parts}: parts must be from 1 to {n}")
    links = _links([W for W in steps if not isinstance(W, Mean | Dense)])
    heard = csr_array((np.ones(links.shape[1]), (links[0], links[1] % n)), shape=(n, n))
    pattern = csr_array(heard + heard.T)
    sides = (PLAIN + REFINED if pattern.nnz <= REFINED_ENTRIES else PLAIN) if pattern.nnz else PLAIN[:1]
    sizes = [n // parts + (block < n % parts) for block in range(parts)]
    found = (_parted(pattern, np.arange(n), sizes, side) for side in sides)
    cheapest = min(found, key=lambda parted: _crossings(links, parted))
    return tuple(sorted(tuple(block.tolist()) for block in cheapest))


def crossings(given: Schedule | AnyMatrix, blocks: Sequence[Sequence[int]]) -> int:
    """Rows that the blocks send each other to apply W: for each block, the columns outside it that its rows weigh.

    For a schedule, the sum over its period, or over 64 steps where that is longer or there is none. Raises a
    ValueError unless the blocks hold each replica once.
    """
    steps = _steps(given)
    n = steps[0].shape[-1]
    if sorted(row for block in blocks for row in block) != list(range(n)):
        raise ValueError(f"blocks must hold each of the replicas 0..{n - 1} exactly once")
    parted = [np.array(block) for block in blocks if len(block)]
    means = sum(isinstance(W, Mean) for W in steps)  # n^2 entries each: counted without them
    links = _links([W for W in steps if not isinstance(W, Mean)])
    return means * n * (len(parted) - 1) + _crossings(links, parted)


def _steps(given: Schedule | AnyMatrix) -> list[AnyMatrix]:
    if not callable(given):
        return [given]
    return [given(step) for step in range(min(given.period or STEPS, STEPS))]


def _links(steps: list[AnyMatrix]) -> np.ndarray:
    """Receiver i and step * n + j, shape (2, links), for each weight W_step[i, j] between two replicas."""
    found = [np.empty((2, 0), dtype=np.int64)]
    for step, W in enumerate(steps):
        i, j = (index.astype(np.int64) for index in square(W).nonzero())
        found.append(np.stack([i, step * W.shape[0] + j])[:, i != j])
    return np.concatenate(found, axis=1)


def _crossings(links: np.ndarray, parted: list[np.ndarray]) -> int:
    owner = np.repeat(np.arange(len(parted)), [len(block) for block in parted])[np.argsort(np.concatenate(parted))]
    receiver, sender = owner[links[0]], owner[links[1] % len(owner)]
    return len(np.unique((links[1] * len(parted) + receiver)[receiver != sender]))


def _parted(pattern: csr_array, nodes: np.ndarray, sizes: list[int], side: Side) -> list[np.ndarray]:
    """`nodes`, linked by `pattern`, in ascending blocks of `sizes`: one side fills the first half of these."""
    if len(sizes) == 1:
        return [nodes]
    half = len(sizes) // 2
    first = np.sort(side(pattern, sum(sizes[:half])))
    halves = (first, sizes[:half]), (np.setdiff1d(np.arange(len(nodes)), first), sizes[half:])
    return [block for own, of in halves for block in _parted(pattern[own][:, own], nodes[own], of, side)]


def _searched(order: Callable[[csr_array, int], np.ndarray]) -> Side:
    """The first nodes that a search meets, component by component, each from its lowest node."""

    def side(pattern: csr_array, size: int) -> np.ndarray:
        met = [order(pattern, part[0]) if len(part) > 1 else part for part in components(pattern)]
        return np.concatenate(met)[:size]

    return side


def _breadth_first(pattern: csr_array, start: int) -> np.ndarray:
    far = breadth_first_order(pattern, start, return_predecessors=False)[-1]  # the end of a path, the rim of a grid
    return breadth_first_order(pattern, far, return_predecessors=False)


def _depth_first(pattern: csr_array, start: int) -> np.ndarray:
    return depth_first_order(pattern, start, return_predecessors=False)


def _refined(side: Side) -> Side:
    """`side`, its nodes exchanged with others while that cuts fewer links."""

    def refined(pattern: csr_array, size: int) -> np.ndarray:
        first = set(side(pattern, size).tolist())
        graph = nx.from_scipy_sparse_array(pattern)
        halves = nx.community.kernighan_lin_bisection(graph, (first, set(graph) - first), seed=0)
        return np.array(next(list(half) for half in halves if len(half) == size))

    return refined


PLAIN: tuple[Side, ...] = (lambda pattern, size: np.arange(size), _searched(_breadth_first), _searched(_depth_first))
REFINED = tuple(_refined(side) for side in PLAIN)
