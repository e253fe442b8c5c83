"""A topology is a graph and the weights on it: a small frozen value that holds names and numbers, never a matrix.

So it hashes, prints, pickles and travels to a worker; graph and matrix are built where asked for, once a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from topologies.arguments import KnobError, about, check_name, whole_number
from topologies.connectivity import component_names, components, hearing_pattern
from topologies.files import graph_from_file, is_file_name, matrix_from_file, version
from topologies.graphs import GRAPHS, Knob, build_graph, check_knobs
from topologies.matrices import Identity, Mean, MixingMatrix, Sparse
from topologies.sizes import check_size
from topologies.stochasticity import check_mixing_matrix
from topologies.weights import WEIGHTS, rule_used

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

Built = TypeVar("Built")


@dataclass(frozen=True)
class Topology:
    """`graph` is a name in GRAPHS or a graph file, `weights` a name in WEIGHTS or a matrix file (.npy, .json).

    Names, knobs and numbers are checked at once; an impossible n, a bad file, weights that do not fit the graph and a
    disconnected graph raise a ValueError (a missing file a FileNotFoundError) from `graph_object` and `matrix`. Every
    error says in its attribute `knob` which field it is about, or which of the graph's knobs.

    >>> Topology("star", 9).edge_count()
    8
    >>> Topology("hypercube", 12).matrix()
    Traceback (most recent call last):
    ...
    topologies.arguments.KnobError: hypercube cannot have n = 12 nodes: ...; the nearest possible n is 8 or 16
    """

    graph: str
    n: int
    weights: str = "auto"
    knobs: tuple[tuple[str, Knob], ...] = ()
    seed: int = 0
    allow_disconnected: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "knobs", tuple(sorted(dict(self.knobs).items())))
        check_size(self.graph, self.n)
        for name in ("n", "seed"):  # NumPy's integers become Python's, which every format can write
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if not is_file_name(self.weights):
            check_name("weights", self.weights, WEIGHTS)
        if not is_file_name(self.graph):
            check_knobs(self.graph, dict(self.knobs))
        elif self.knobs:
            raise KnobError("graph", f"a graph file takes no knobs, and {self.graph} was given {dict(self.knobs)}")

    @classmethod
    def from_file(cls, path: str | PathLike[str], **fields: Any) -> Topology:
        """The topology of a graph file, n being the number of nodes in it; `fields` are the other fields."""
        with about("graph"):
            n = graph_from_file(path).number_of_nodes()
        return cls(str(path), n, **fields)

    def graph_object(self) -> nx.Graph[int]:
        """The networkx graph, nodes 0..n-1; shared and therefore frozen. Connected unless `allow_disconnected`."""
        return _graph_object(self)

    def files(self) -> tuple[Path, ...]:
        """The files it is read from: a graph's, a mixing matrix's."""
        return tuple(Path(name) for name in (self.graph, self.weights) if is_file_name(name))

    def matrix(self) -> MixingMatrix:
        """W, shape (n, n): Mean where all entries are 1/n, Identity where nobody hears anybody, else Sparse."""
        return _matrix(self)

    def weights_used(self) -> str:
        """The name of the weight rule, `auto` resolved to what it stands for here; a matrix file is its own name."""
        if is_file_name(self.weights) or self.weights != "auto":
            return self.weights
        return "metropolis_hastings" if self.graph == "complete" else rule_used("auto", self.graph_object())

    def edge_count(self) -> int:
        """Number of edges of the graph; an edge of a directed graph carries models one way."""
        return self.n * (self.n - 1) // 2 if self.graph == "complete" else self.graph_object().number_of_edges()


def cached_by_content(build: Callable[[Topology], Built]) -> Callable[[Topology], Built]:
    """`build`, done once for a topology, the present content of its files, and what its names stand for now."""

    @lru_cache(maxsize=16)
    def built(topology: Topology, versions: tuple[object, ...]) -> Built:
        return build(topology)

    @wraps(build)
    def latest(topology: Topology) -> Built:
        named = GRAPHS.get(topology.graph), WEIGHTS.get(topology.weights)
        return built(topology, (*named, *map(version, topology.files())))

    return latest


@cached_by_content
def _graph_object(topology: Topology) -> nx.Graph[int]:
    graph = _read(topology) if is_file_name(topology.graph) else _build(topology)
    parts = components(hearing_pattern(graph))
    if len(parts) > 1 and not topology.allow_disconnected:
        names = component_names(parts)
        raise KnobError(
            "graph",
            f"the graph {topology.graph} is disconnected, so its replicas never agree: its components are {names}; "
            f"join them, or set allow_disconnected",
        )
    frozen: nx.Graph[int] = nx.freeze(graph)
    return frozen


def _build(topology: Topology) -> nx.Graph[int]:
    graph = build_graph(topology.graph, topology.n, topology.seed, **dict(topology.knobs))
    if set(graph) != set(range(topology.n)):
        raise KnobError(
            "graph", f"the graph {topology.graph} has not the nodes 0 to {topology.n - 1} (n = {topology.n})"
        )
    return graph


def _read(topology: Topology) -> nx.Graph[int]:
    with about("graph"):
        graph = graph_from_file(topology.graph)
    nodes = graph.number_of_nodes()
    if nodes != topology.n:
        raise KnobError("n", f"the graph in {topology.graph} has {nodes} nodes, and n = {topology.n}: set n to {nodes}")
    return graph


@cached_by_content
def _matrix(topology: Topology) -> MixingMatrix:
    # Every rule but `lazy` gives J on the complete graph, whose n^2/2 edges are then never built.
    if topology.graph == "complete" and topology.weights in WEIGHTS and topology.weights != "lazy":
        return _smallest_kind(Mean(topology.n))
    graph = topology.graph_object()
    with about("weights"):
        return _smallest_kind(Sparse(_weighted(graph, topology)))


def _weighted(graph: nx.Graph[int], topology: Topology) -> csr_array:
    rule = WEIGHTS.get(topology.weights)
    if rule and rule.__module__.startswith("topologies."):
        return rule(graph)
    csr = csr_array(rule(graph)) if rule else matrix_from_file(topology.weights)
    check_mixing_matrix(csr, graph, allow_disconnected=topology.allow_disconnected)
    return csr


def _smallest_kind(matrix: Mean | Sparse) -> MixingMatrix:
    n = matrix.n
    if n == 1:
        return Identity(1)
    if isinstance(matrix, Sparse):
        if matrix.csr.nnz == n * n and np.abs(matrix.csr.data - 1 / n).max() < 1e-12:
            return Mean(n)
        if matrix.messages == 0:
            return Identity(n)
    return matrix
