"""From a graph to its mixing matrix W: sparse, float64, rows and columns summing to one.

W[i, j] is the weight replica i gives to j's model, w_i <- sum_j W[i, j] w_j, so an edge j -> i of a directed graph
(j sends to i) makes W[i, j] positive. The rules are those compared in Xiao and Boyd 2004, "Fast linear iterations for
distributed averaging". A rule is defined on disconnected graphs too; `Topology` is what refuses those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array

from topologies.arguments import check_name
from topologies.connectivity import entry_rows, hearing_pattern
from topologies.optimal_weights import fastest_edge_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    import networkx as nx


def metropolis_hastings(graph: nx.Graph[int]) -> csr_array:
    """W[i, j] = 1 / (1 + max(d_i, d_j)) on the edges, the rest on the diagonal; symmetric, needs no global number."""
    pattern = _undirected_pattern(graph, "metropolis_hastings")
    degrees = np.diff(pattern.indptr)
    return fill_diagonal(pattern, 1 / (1 + np.maximum(degrees[entry_rows(pattern)], degrees[pattern.indices])))


def uniform(graph: nx.Graph[int]) -> csr_array:
    """Equal weights 1 / (degree + 1) for oneself and all one hears; regular graphs only, directed or not."""
    pattern = hearing_pattern(graph)
    hears, heard = np.diff(pattern.indptr), np.bincount(pattern.indices, minlength=graph.number_of_nodes())
    low, high = min(hears.min(), heard.min()), max(hears.max(), heard.max())
    if low != high:
        advice = "it cannot be made doubly stochastic" if graph.is_directed() else "use metropolis_hastings"
        raise ValueError(f"uniform weights need all degrees equal, and here they run from {low} to {high}: {advice}")
    return csr_array((pattern + eye_array(graph.number_of_nodes())) / (high + 1))


def max_degree(graph: nx.Graph[int]) -> csr_array:
    """W = I - L / (d_max + 1), L the graph's Laplacian: one weight for all edges; symmetric."""
    pattern = _undirected_pattern(graph, "max_degree")
    return fill_diagonal(pattern, np.full(pattern.nnz, 1 / (1 + np.diff(pattern.indptr).max())))


def lazy(graph: nx.Graph[int]) -> csr_array:
    """W = (I + metropolis_hastings) / 2: no negative eigenvalue, half the speed."""
    pattern = _undirected_pattern(graph, "lazy")
    return csr_array((metropolis_hastings(graph) + eye_array(pattern.shape[0])) / 2)


def fdla(graph: nx.Graph[int]) -> csr_array:
    """Fastest distributed linear averaging: the symmetric W on the edges with the least ||W - J||_2; may be negative.

    Raises a ValueError without cvxpy or beyond 100 nodes: the semidefinite program is dense.
    """
    return _optimal(_undirected_pattern(graph, "fdla"), nonnegative=False)


def fmmc(graph: nx.Graph[int]) -> csr_array:
    """Fastest mixing Markov chain: as fdla with W >= 0. Boyd, Diaconis and Xiao 2004. Raises as fdla does."""
    return _optimal(_undirected_pattern(graph, "fmmc"), nonnegative=True)


def auto(graph: nx.Graph[int]) -> csr_array:
    """Metropolis-Hastings on undirected graphs, uniform on directed ones, which must then be regular."""
    return WEIGHTS[rule_used("auto", graph)](graph)


WEIGHTS: dict[str, Callable[[nx.Graph[int]], csr_array]] = {
    rule.__name__: rule for rule in (auto, metropolis_hastings, uniform, max_degree, lazy, fdla, fmmc)
}


def rule_used(name: str, graph: nx.Graph[int]) -> str:
    """The name of the rule that `name` stands for on this graph: `auto` resolved, the others themselves.

    Raises a ValueError for an unknown name.
    """
    check_name("weights", name, WEIGHTS)
    if name != "auto":
        return name
    return "uniform" if graph.is_directed() else "metropolis_hastings"


def fill_diagonal(pattern: csr_array, values: np.ndarray) -> csr_array:
    """W with `values` at the pattern's entries and, on the diagonal, what makes every row sum to one."""
    edges = csr_array((values, pattern.indices, pattern.indptr), shape=pattern.shape)
    return csr_array(edges + diags_array(1 - edges.sum(axis=1)))


def _optimal(pattern: csr_array, nonnegative: bool) -> csr_array:
    rows, columns = entry_rows(pattern), pattern.indices
    weights = np.zeros(pattern.shape)
    upper = rows < columns
    weights[rows[upper], columns[upper]] = fastest_edge_weights(pattern, rows[upper], columns[upper], nonnegative)
    return fill_diagonal(pattern, (weights + weights.T)[rows, columns])


def _undirected_pattern(graph: nx.Graph[int], rule: str) -> csr_array:
    if graph.is_directed():
        raise ValueError(f"{rule} weights need an undirected graph, and this one is directed: use uniform")
    return hearing_pattern(graph)
