"""The edge weights that make the slowest mode of averaging as fast as the graph allows, by semidefinite programming.

Xiao and Boyd 2004, "Fast linear iterations for distributed averaging", problem (17): minimise ||W - J||_2 over the
symmetric W with the graph's sparsity and W 1 = 1. Needs cvxpy, the extra `dsgd[topology]`.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MOST_NODES = 100


def fastest_edge_weights(pattern: csr_array, heads: np.ndarray, tails: np.ndarray, nonnegative: bool) -> np.ndarray:
    """The weight of each edge {heads[e], tails[e]}; with `nonnegative`, W >= 0 including its diagonal.

    Raises a ValueError without cvxpy, above MOST_NODES nodes, or if the solver finds no solution.
    """
    n = pattern.shape[0]
    if n > MOST_NODES:
        raise ValueError(f"fdla and fmmc solve a dense program of at most {MOST_NODES} nodes, and n = {n}: use auto")
    if len(heads) == 0:
        return np.zeros(0)
    weights = _solve(_incidence(n, heads, tails), nonnegative)
    return _into_range(weights, n, heads, tails) if nonnegative else weights


def _solve(incidence: np.ndarray, nonnegative: bool) -> np.ndarray:
    try:
        cp: Any = import_module("cvxpy")
    except ImportError:
        raise ValueError(
            """fdla and fmmc weights need cvxpy: pip install "dsgd[topology]", or -e ".[topology]" from a checkout"""
        ) from None
    n, edges = incidence.shape
    weights = cp.Variable(edges, nonneg=nonnegative)
    W = np.eye(n) - incidence @ cp.diag(weights) @ incidence.T
    deviation = W - np.full((n, n), 1 / n)
    slowest = cp.maximum(cp.lambda_max(deviation), cp.lambda_max(-deviation))
    problem = cp.Problem(cp.Minimize(slowest), [cp.diag(W) >= 0] if nonnegative else [])
    with suppress(cp.SolverError):  # which leaves no value either
        problem.solve(solver=cp.CLARABEL)
    if weights.value is None:
        raise ValueError(f"the solver found no optimal weights ({problem.status or 'it failed'}): use weights = 'auto'")
    return np.asarray(weights.value, dtype=np.float64)


def _incidence(n: int, heads: np.ndarray, tails: np.ndarray) -> np.ndarray:
    incidence = np.zeros((n, len(heads)))
    edges = np.arange(len(heads))
    incidence[heads, edges], incidence[tails, edges] = 1, -1
    return incidence


def _into_range(weights: np.ndarray, n: int, heads: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """The solver's answer without its 1e-9 violations: no weight below 0, no node giving away more than 1."""
    positive = np.maximum(weights, 0)
    given = np.bincount(heads, positive, n) + np.bincount(tails, positive, n)
    return np.asarray(positive / max(1.0, given.max()))
