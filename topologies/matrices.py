"""The few kinds of mixing matrix W_t, each stored as little as it needs: the mean is never an n x n array.

W[i, j] is the weight replica i gives to replica j's model: w_i <- sum_j W[i, j] w_j. Each kind has `n` (columns),
`shape`, `sparse()`, `toarray()` and `messages`, the models a real network would carry in that step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array

if TYPE_CHECKING:
    from scipy.sparse import coo_array, csc_array


@dataclass(frozen=True)
class Identity:
    """Nobody talks: w_i <- w_i."""

    n: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def messages(self) -> int:
        return 0

    def sparse(self) -> csr_array:
        return eye_array(self.n, format="csr")

    def toarray(self) -> np.ndarray:
        return np.eye(self.n)


@dataclass(frozen=True)
class Mean:
    """Everybody hears everybody: w_i <- (1/n) sum_j w_j, W = J."""

    n: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def messages(self) -> int:
        return self.n * (self.n - 1)

    def sparse(self) -> csr_array:
        return csr_array(self.toarray())

    def toarray(self) -> np.ndarray:
        return np.full(self.shape, 1 / self.n)


@dataclass(frozen=True, eq=False)
class Permutation:
    """Everybody hears one other: w_i <- a w_i + (1 - a) w_partner[i], a = `self_weight` in [0, 1].

    `partner` holds each of 0..n-1 once (so that W is doubly stochastic); partner[i] = i leaves replica i alone.
    """

    partner: np.ndarray
    self_weight: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "partner", np.asarray(self.partner, dtype=np.int64))
        ordered = np.sort(self.partner)
        if self.partner.ndim != 1 or not np.array_equal(ordered, np.arange(len(ordered))):
            raise ValueError("partner must hold each of 0..n-1 exactly once, in any order")
        if not 0 <= self.self_weight <= 1:
            raise ValueError(f"self_weight must be between 0 and 1, not {self.self_weight!r}")

    @property
    def n(self) -> int:
        return len(self.partner)

    @property
    def shape(self) -> tuple[int, int]:
        return self.n, self.n

    @property
    def messages(self) -> int:
        return int(np.sum(self.partner != np.arange(self.n))) if self.self_weight < 1 else 0

    def sparse(self) -> csr_array:
        swap = csr_array((np.ones(self.n), self.partner, np.arange(self.n + 1)), shape=self.shape)
        return csr_array(self.self_weight * eye_array(self.n) + (1 - self.self_weight) * swap)

    def toarray(self) -> np.ndarray:
        return self.sparse().toarray()


@dataclass(frozen=True, eq=False)
class Sparse:
    """Any graph: `csr` of shape (n, n), float64. The array is shared, not copied; do not write to it."""

    csr: csr_array

    @property
    def n(self) -> int:
        return int(self.csr.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.csr.shape[0]), self.n

    @cached_property
    def messages(self) -> int:
        return int(self.csr.count_nonzero() - np.count_nonzero(self.csr.diagonal()))

    def sparse(self) -> csr_array:
        return self.csr

    def toarray(self) -> np.ndarray:
        return self.csr.toarray()


@dataclass(frozen=True, eq=False)
class Dense:
    """Any linear map of the n replicas to K rows: `array` of shape (K, n), such as the samples Z (I - J) / sqrt(n)."""

    array: np.ndarray

    @property
    def n(self) -> int:
        return int(self.array.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.array.shape[0]), self.n

    @property
    def messages(self) -> int:
        return int(np.count_nonzero(self.array) - np.count_nonzero(np.diagonal(self.array)))

    def sparse(self) -> csr_array:
        return csr_array(self.array)

    def toarray(self) -> np.ndarray:
        return self.array


MixingMatrix = Identity | Mean | Permutation | Sparse | Dense
AnyMatrix: TypeAlias = "np.ndarray | csr_array | csc_array | coo_array | MixingMatrix"


def as_csr(W: AnyMatrix) -> csr_array:
    """Any matrix as CSR, float64."""
    if isinstance(W, MixingMatrix):
        return W.sparse()
    array: Any = W  # the overloads of csr_array do not cover the union
    return csr_array(array, dtype=np.float64)


def isolated(w: MixingMatrix, nodes: Sequence[int]) -> Sparse:
    """W with the given nodes left alone: whoever heard one of them hears itself instead, and they hear only themselves.

    Rows still sum to one, and a symmetric W stays symmetric, so that the others' mean is kept.
    """
    keep = np.ones(w.n)
    keep[list(nodes)] = 0
    among_others = diags_array(keep) @ w.sparse() @ diags_array(keep)
    rest = 1 - np.asarray(among_others.sum(axis=1)).ravel()
    return Sparse(csr_array(among_others + diags_array(rest)))
