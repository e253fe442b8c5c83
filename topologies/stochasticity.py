"""The check of a mixing matrix: what is wrong with W, and where, in one sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from topologies.connectivity import component_names, components, entry_rows, hearing_pattern
from topologies.eigenvalues import second_largest_modulus
from topologies.matrices import MixingMatrix, as_csr

if TYPE_CHECKING:
    import networkx as nx

    from topologies.matrices import AnyMatrix

TOLERANCE = 1e-8


def check_mixing_matrix(W: AnyMatrix, graph: nx.Graph[int] | None = None, *, allow_disconnected: bool = False) -> None:
    """Raise a ValueError unless W averages: square, finite, doubly stochastic to 1e-8 and slem below one.

    Given a graph, W must also keep to its edges. Negative entries are allowed: the fastest weights have them.
    With `allow_disconnected` the last condition, slem < 1, is dropped; where slem is not found, connected is enough.
    """
    csr = square(W)
    _check_finite(csr)
    _check_sums(csr, "row", axis=1)
    _check_sums(csr, "column", axis=0)
    if graph is not None:
        _check_edges(csr, graph)
    if not allow_disconnected:
        _check_mixes(csr)


def square(W: AnyMatrix) -> csr_array:
    """W as CSR; a ValueError unless it is square, at least 1 x 1, and holds real numbers."""
    if len(W.shape) != 2 or W.shape[0] != W.shape[1] or W.shape[0] == 0:
        raise ValueError(f"a mixing matrix must be square, (n, n) for n replicas, not of shape {tuple(W.shape)}")
    if not isinstance(W, MixingMatrix) and W.dtype.kind not in "biuf":
        raise ValueError(f"a mixing matrix must hold real numbers, not {W.dtype}")
    return as_csr(W)


def _check_finite(csr: csr_array) -> None:
    bad = np.flatnonzero(~np.isfinite(csr.data))
    if len(bad):
        i, j = entry_rows(csr)[bad[0]], csr.indices[bad[0]]
        raise ValueError(f"W[{i}, {j}] is {csr.data[bad[0]]}: every entry of a mixing matrix must be finite")


def _check_sums(csr: csr_array, line: str, axis: int) -> None:
    sums = np.asarray(csr.sum(axis=axis))
    worst = int(np.argmax(np.abs(sums - 1)))
    if abs(sums[worst] - 1) > TOLERANCE:
        raise ValueError(
            f"the mixing matrix is not doubly stochastic: {line} {worst} sums to {sums[worst]:.10g}, and must sum to 1"
        )


def _check_edges(csr: csr_array, graph: nx.Graph[int]) -> None:
    pattern = hearing_pattern(graph)
    if pattern.shape != csr.shape:
        raise ValueError(f"the mixing matrix is for n = {csr.shape[0]} replicas and the graph has {pattern.shape[0]}")
    between = csr_array(csr - csr * pattern)
    rows, columns = entry_rows(between), between.indices
    off = np.flatnonzero((rows != columns) & (np.abs(between.data) > 0))
    if len(off):
        i, j = rows[off[0]], columns[off[0]]
        raise ValueError(f"W[{i}, {j}] is {between.data[off[0]]:.6g}, and the graph has no edge from {j} to {i}")


def _check_mixes(csr: csr_array) -> None:
    parts = components(csr)
    if len(parts) > 1:
        raise ValueError(
            f"the mixing matrix never reaches agreement: it splits into the components {component_names(parts)}"
        )
    slem = second_largest_modulus(csr)
    if slem is not None and slem >= 1:
        raise ValueError(
            f"the mixing matrix never reaches agreement: its second largest eigenvalue modulus is {slem:.6g}, and must "
            f"be below 1 (where it is 1, give every replica some weight on itself)"
        )
