"""Who hears whom, as a sparse pattern, and the components it falls into."""

from __future__ import annotations

import networkx as nx
import numpy as np
from scipy.sparse import csr_array


def hearing_pattern(graph: nx.Graph[int]) -> csr_array:
    """Ones at [i, j] where i hears from j, shape (n, n), float64: the transposed adjacency matrix without its diagonal.

    Raises a ValueError unless the nodes are 0..n-1.
    """
    n = graph.number_of_nodes()
    if n == 0 or set(graph) != set(range(n)):
        raise ValueError(
            "the graph's nodes must be 0..n-1, n at least 1: relabel it with networkx.convert_node_labels_to_integers"
        )
    sends = nx.to_scipy_sparse_array(graph, nodelist=range(n), weight=None, dtype=np.dtype(np.float64), format="coo")
    rows, columns = sends.coords
    between = rows != columns
    pattern = csr_array((np.ones(between.sum()), (columns[between], rows[between])), shape=(n, n))
    pattern.data[:] = 1
    return pattern


def entry_rows(matrix: csr_array) -> np.ndarray:
    """The row of each stored entry of a CSR matrix, in the order of `matrix.data`."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def components(pattern: csr_array) -> list[np.ndarray]:
    """The nodes of each (strongly) connected component, the one with the lowest node first."""
    from scipy.sparse.csgraph import connected_components  # brings in scipy.sparse.linalg, half the import time

    number, labels = connected_components(pattern, directed=True, connection="strong")
    if number == 1:
        return [np.arange(len(labels))]
    parts = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    return sorted(parts, key=lambda part: int(part[0]))


def component_names(parts: list[np.ndarray], most: int = 4) -> str:
    """Components in words, long ones cut short: `{0, 1}, {2, 3, 4, 5, ...}`."""
    names = ["{" + ", ".join([*map(str, part[:most]), *["..."] * (len(part) > most)]) + "}" for part in parts[:most]]
    return ", ".join(names) + (f" and {len(parts) - most} more" if len(parts) > most else "")
