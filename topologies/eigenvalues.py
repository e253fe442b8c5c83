"""The second largest eigenvalue modulus (SLEM) of a doubly stochastic W, for ten nodes as for a hundred thousand.

Up to DENSE nodes by LAPACK. Above, a few Lanczos steps on W - J tell which of two ways is quick: where the gap is wide
(an expander, on which a sparse LU would fill in) more Lanczos steps; where it is narrow (a ring, on which Lanczos would
not converge) Lanczos on the pseudo-inverse of I - W, by one sparse LU. Start vectors are seeded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_array, csr_array, eye_array

from topologies.connectivity import components

if TYPE_CHECKING:
    from collections.abc import Callable

DENSE = 600
ROUNDING = 1e-12
BIPARTITE = 1e-13
NARROW_GAP = 5e-3


def second_largest_modulus(W: csr_array) -> float | None:
    """SLEM of W, shape (n, n): 0 for n = 1, exactly 1 for a disconnected W, None where it is not found.

    That may be above DENSE nodes, where W is not normal and its second eigenvalue not well apart from the others.

    Below 1e-12 it counts as 0; within 1e-13 of 1 (a bipartite graph without self-weights has the eigenvalue -1) as 1.
    """
    if W.shape[0] == 1:
        return 0.0
    if len(components(W)) > 1:
        return 1.0
    slem = dense_slem(W.toarray()) if W.shape[0] <= DENSE else sparse_slem(W)
    if slem is None or slem < ROUNDING:
        return None if slem is None else 0.0
    return 1.0 if abs(slem - 1) < BIPARTITE else slem


def dense_eigenvalues(W: np.ndarray) -> np.ndarray:
    """All eigenvalues of W, unordered; real and accurate to rounding where W is symmetric."""
    return np.linalg.eigvalsh(W) if is_symmetric(W) else np.linalg.eigvals(W)


def dense_slem(W: np.ndarray) -> float:
    """Largest eigenvalue modulus of W - J, which has W's eigenvalues with one 1 replaced by 0."""
    return float(np.abs(dense_eigenvalues(W - 1 / len(W))).max())


def is_symmetric(W: np.ndarray | csr_array) -> bool:
    """Whether W equals its transpose up to rounding."""
    return bool(abs(W - W.T).max() <= ROUNDING)


def sparse_slem(W: csr_array) -> float | None:
    """SLEM without dense work, None where it is not found.

    A normal W, such as a circulant, goes by way of W^T W, whose eigenvalues are |lambda|^2.
    """
    if is_symmetric(W):
        return symmetric_slem(W)
    if is_normal(W):
        squares = csr_array(W.T @ W)
        return 1.0 if len(components(squares)) > 1 else float(np.sqrt(symmetric_slem(squares)))
    return _arnoldi(W)


def is_normal(W: csr_array) -> bool:
    """Whether W W^T = W^T W, judged on one random vector (the two products may be far denser than W)."""
    x = _start(W.shape[0])
    return bool(np.abs(W @ (W.T @ x) - W.T @ (W @ x)).max() <= ROUNDING * np.abs(x).max())


def symmetric_slem(W: csr_array) -> float:
    """SLEM of a large symmetric connected W."""
    from scipy.sparse.linalg import ArpackNoConvergence

    def deflated(x: np.ndarray) -> np.ndarray:
        return np.asarray(W @ x - x.mean())

    n = W.shape[0]
    if np.abs(deflated(_start(n))).max() < ROUNDING:
        return 0.0
    if 1 - abs(_dominant(deflated, n, tolerance=1e-2)) > NARROW_GAP or W.data.min() < 0:
        try:
            return abs(_dominant(deflated, n, tolerance=1e-10))
        except ArpackNoConvergence:
            pass
    top = 1 - 1 / _dominant(_pseudo_inverse(W), n, tolerance=1e-10)
    return top if top >= -_gershgorin_bottom(W) else max(top, -most_negative_eigenvalue(W))


def _dominant(operator: Callable[[np.ndarray], np.ndarray], n: int, tolerance: float) -> float:
    """The eigenvalue of largest modulus of a symmetric operator on vectors orthogonal to 1."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    linear = LinearOperator((n, n), matvec=operator, dtype=np.float64)
    values = eigsh(linear, k=1, which="LM", v0=_start(n), ncv=40, maxiter=200, tol=tolerance, return_eigenvectors=False)
    return float(values[0])


def _pseudo_inverse(W: csr_array) -> Callable[[np.ndarray], np.ndarray]:
    """x -> (I - W)^+ x: solve with node 0 grounded (that matrix is regular on a connected graph), then centre."""
    solve = _factorised(eye_array(W.shape[0]) - W, first=1)

    def apply(x: np.ndarray) -> np.ndarray:
        y = np.concatenate([[0.0], solve(x[1:] - x.mean())])
        return np.asarray(y - y.mean())

    return apply


def most_negative_eigenvalue(W: csr_array) -> float:
    """The most negative eigenvalue of a symmetric W, by Lanczos on the inverse of I + W; -1 where that is singular."""
    try:
        solve = _factorised(eye_array(W.shape[0]) + W, first=0)
    except RuntimeError:
        return -1.0
    return 1 / _dominant(solve, W.shape[0], tolerance=1e-10) - 1


def _factorised(matrix: csr_array, first: int) -> Callable[[np.ndarray], np.ndarray]:
    """Solver with the symmetric positive definite `matrix` without its rows and columns before `first`."""
    from scipy.sparse.linalg import splu

    block = csc_array(csr_array(matrix)[first:, first:])
    lu = splu(block, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return lambda b: np.asarray(lu.solve(b))


def _gershgorin_bottom(W: csr_array) -> float:
    """A lower bound on the eigenvalues of a symmetric W: min_i (W[i, i] - sum_{j != i} |W[i, j]|)."""
    own = W.diagonal()
    return float((own + abs(own) - abs(W).sum(axis=1)).min())


def _arnoldi(W: csr_array) -> float | None:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

    n = W.shape[0]
    deflated = LinearOperator((n, n), matvec=lambda x: W @ x - x.mean(), dtype=np.float64)
    try:
        values = eigs(deflated, k=1, which="LM", v0=_start(n), ncv=60, maxiter=200, return_eigenvectors=False)
    except ArpackNoConvergence:
        return None
    return float(np.abs(values[0]))


def _start(n: int) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal(n)
    return np.asarray(x - x.mean())
