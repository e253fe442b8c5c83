"""What a mixing matrix promises: spectral gap, mixing time, effective neighbours, how far replicas stay apart.

Every function takes W as a NumPy array, a SciPy sparse matrix or one of the kinds in `matrices.py`, shape (n, n).
Those that need the whole spectrum do dense work and refuse more than 4096 replicas, except on Mean and Identity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from topologies.arguments import check_name
from topologies.eigenvalues import DENSE, ROUNDING, dense_eigenvalues, is_symmetric, second_largest_modulus
from topologies.matrices import Identity, Mean, as_csr
from topologies.topology import Topology
from topologies.weights import WEIGHTS, rule_used

if TYPE_CHECKING:
    import networkx as nx

    from topologies.matrices import AnyMatrix

Order = Literal["consensus", "adapt_then_combine", "combine_then_adapt"]
ORDERS: tuple[Order, ...] = ("consensus", "adapt_then_combine", "combine_then_adapt")
MOST_NODES = 4096


def spectrum(W: AnyMatrix) -> np.ndarray:
    """All n eigenvalues, largest modulus first, those below 1e-12 set to 0; real where W is symmetric."""
    values = dense_eigenvalues(_dense(W))
    values = np.where(np.abs(values) < ROUNDING, 0, values)
    return values[np.argsort(-np.abs(values), kind="stable")]


def slem(W: AnyMatrix) -> float:
    """The second largest eigenvalue modulus of a doubly stochastic W: 0 for n = 1, 1 where W is disconnected.

    Raises a ValueError where it is not found: on some W above 600 replicas that are not normal.
    """
    found = _slem(W)
    if found is None:
        raise ValueError(f"the second eigenvalue of this directed W of n = {W.shape[0]} was not found")
    return found


def spectral_gap(W: AnyMatrix) -> float:
    """1 - slem(W).

    >>> round(spectral_gap(Topology("ring", 16).matrix()), 4)
    0.0507
    """
    return 1 - slem(W)


def mixing_time(slem: float) -> int | None:
    """Steps until the distance to consensus has shrunk fourfold: ceil(ln 4 / -ln slem); None where it never does."""
    if slem >= 1:
        return None
    return 1 if slem < ROUNDING else math.ceil(math.log(4) / -math.log(slem))


def effective_neighbours(W: AnyMatrix, gamma: float = 0.99) -> float:
    """n_W(gamma) = 1 / ((1 - gamma) mean_i Var x_i) for the random walk x <- W (sqrt(gamma) x + noise).

    From 1 (W = I) to n (W = J). Symmetric W: mean_i Var x_i = (1/n) sum lambda^2 / (1 - gamma lambda^2).
    Vogels, Hendrikx and Jaggi 2022, "Beyond spectral gap", arXiv 2206.03093.

    Raises a ValueError unless 0 <= gamma < 1.

    >>> [round(effective_neighbours(Topology(graph, 16).matrix()), 1) for graph in ("complete", "exponential", "star")]
    [16.0, 15.6, 8.2]
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma must be at least 0 and below 1, not {gamma!r}")
    if isinstance(W, Mean | Identity):
        return float(W.n) if isinstance(W, Mean) else 1.0
    dense = _dense(W)
    if is_symmetric(dense):
        squares = spectrum(dense) ** 2
        variance = np.mean(squares / (1 - gamma * squares))
    else:
        variance = np.trace(lyapunov(math.sqrt(gamma) * dense, dense @ dense.T)) / len(dense)
    return float(1 / ((1 - gamma) * variance))


def stationary_consensus(W: AnyMatrix, order: Order = "consensus") -> float:
    """S(W): under flat curvature and independent noise of trace sigma^2, E Tr Xi -> lr^2 sigma^2 S(W).

    Xi is the covariance of the replicas (normaliser 1/n) after a step. With Q = W Pi, Pi = I - J and g noise:

    - consensus, w <- W w - lr g(w): X = Q X Q^T + Pi, S = tr X / n; symmetric W: (1/n) sum_{k>=2} 1 / (1 - lambda_k^2)
    - adapt_then_combine, w <- W (w - lr g(w)): S = tr(Q X Q^T) / n, lambda_k^2 in the numerator
    - combine_then_adapt, w <- W w - lr g(W w): the stored w has the law of consensus, so its S; but the gradients are
      evaluated at the mixed points W w, whose spread is that of adapt_then_combine

    Infinite where W is disconnected. Source: the linear theory behind Zhu et al. 2023, arXiv 2306.02913.

    >>> W = Topology("ring", 16).matrix()
    >>> round(stationary_consensus(W), 3), round(stationary_consensus(W, "adapt_then_combine"), 3)
    (2.41, 1.472)
    """
    check_name("order", order, ORDERS)
    combines_last = order == "adapt_then_combine"
    if isinstance(W, Mean) or W.shape[0] == 1:
        return 0.0 if combines_last else 1 - 1 / W.shape[0]
    if slem(W) >= 1:
        return math.inf
    dense = _dense(W)
    n = len(dense)
    Q, centre = dense - 1 / n, np.eye(n) - 1 / n
    if is_symmetric(dense):
        squares = np.sort(spectrum(Q) ** 2)[1:]  # the smallest is the zero that replaces the eigenvalue 1
        return float(np.sum((squares if combines_last else 1) / (1 - squares)) / n)
    X = lyapunov(Q, centre)
    return float(np.trace(Q @ X @ Q.T if combines_last else X) / n)


def lyapunov(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """The X with X = A X A^T + B, shape (n, n), for A of spectral radius below one: X = sum_k A^k B A^kT.

    Smith's doubling (X <- X + A X A^T, A <- A A): twice the terms a round, and no worse for a singular A.
    """
    X = B
    for _ in range(64):
        step = A @ X @ A.T
        X, A = X + step, A @ A
        if np.abs(step).max() <= 1e-15 * np.abs(X).max():
            break
    return X


def facts(topology: Topology | nx.Graph[int], W: AnyMatrix | None = None, gamma: float = 0.99) -> dict[str, Any]:
    """What `dsgd topology` prints, as plain numbers: never NaN or infinite, None where unavailable or too expensive.

    Given a networkx graph, `W` is its matrix (weights "given") or by default the one of the rule `auto`.
    """
    graph_edges, rule, matrix = _parts(topology, W)
    n, second = matrix.shape[0], _slem(matrix)
    cheap = n <= DENSE or isinstance(matrix, Mean | Identity)
    return {
        "n": n,
        "edges": graph_edges,
        "weights": rule,
        "spectral_gap": None if second is None else 1 - second,
        "slem": second,
        "mixing_time": None if second is None else 0 if n == 1 else mixing_time(second),
        "effective_neighbours": effective_neighbours(matrix, gamma) if cheap else None,
        "gamma": gamma,
        "stationary_consensus": {order: _finite(matrix, order) if cheap else None for order in ORDERS[:2]},
    }


def _parts(topology: Topology | nx.Graph[int], W: AnyMatrix | None) -> tuple[int, str, AnyMatrix]:
    if isinstance(topology, Topology):
        return topology.edge_count(), topology.weights_used(), topology.matrix() if W is None else W
    rule = rule_used("auto", topology) if W is None else "given"
    return topology.number_of_edges(), rule, WEIGHTS["auto"](topology) if W is None else W


def _slem(W: AnyMatrix) -> float | None:
    return 0.0 if isinstance(W, Mean) else second_largest_modulus(as_csr(W))


def _finite(W: AnyMatrix, order: Order) -> float | None:
    value = stationary_consensus(W, order)
    return value if math.isfinite(value) else None


def _dense(W: AnyMatrix) -> np.ndarray:
    if W.shape[0] > MOST_NODES:
        raise ValueError(f"this needs the full spectrum, for at most {MOST_NODES} replicas, and n = {W.shape[0]}")
    return as_csr(W).toarray()
