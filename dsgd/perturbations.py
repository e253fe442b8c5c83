"""Perturbations of the parameters by purpose: directions, and N(0, Xi) without forming Xi.

Xi = (1/n) sum_j delta_j delta_j^T is the covariance of n replicas around their mean (Zhu et al. 2023, arXiv 2306.02913,
the weight diversity matrix). It has rank at most n - 1 and is never formed: everything works on the (n, d) deviations.
Cubatures: Stroud (1971), rules for the Gaussian weight of degree 3 (2r points) and 5 (2r^2 + 1 points) in rank r.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dsgd.randomness import Key, Row, generator, normal, normal_rows

if TYPE_CHECKING:
    from torch import Tensor

RANK_TOLERANCE = 1e-12  # eigenvalues of the Gram matrix below this share of the largest are rounding, in float64
ROUNDINGS = 10  # times n, in units of the precision: what they are in any


@dataclass(frozen=True)
class Cloud:
    """Deviations of n replicas from their mean, shape (n, d), as a Gaussian N(0, Xi) with Xi their covariance."""

    deviations: Tensor

    @cached_property
    def axes(self) -> Tensor:
        """Rows C_k, shape (rank, d), with C^T C = Xi; from the eigenvectors of the n x n Gram matrix."""
        import torch

        n = self.deviations.shape[0]
        values, vectors = torch.linalg.eigh(self.deviations @ self.deviations.T / n)
        rounding = max(RANK_TOLERANCE, ROUNDINGS * n * torch.finfo(values.dtype).eps)
        keep = values > rounding * values[-1].clamp(min=0)
        return vectors[:, keep].T @ self.deviations / math.sqrt(n)

    @property
    def size(self) -> int:
        """Number of standard normal coefficients that make one sample."""
        return self.deviations.shape[0]

    @property
    def trace(self) -> Tensor:
        """Tr Xi, the squared consensus distance."""
        return self.deviations.square().sum() / self.deviations.shape[0]

    def coefficients(self, count: int, seed: int, *path: Key) -> Tensor:
        """Keyed standard normal coefficients of `count` samples, (count, n), from which `offsets` makes them."""
        return normal((count, self.size), seed, *path)

    def offsets(self, coefficients: Tensor) -> Tensor:
        """Samples z^T delta / sqrt(n) of N(0, Xi), shape (K, d), for standard normal coefficients (K, n)."""
        return coefficients.to(self.deviations) @ self.deviations / math.sqrt(self.deviations.shape[0])


def cloud(matrix: Tensor) -> Cloud:
    """The cloud of the rows of `matrix` (n, d)."""
    return Cloud(matrix - matrix.mean(dim=0, keepdim=True))


@dataclass(frozen=True)
class Cubature:
    """Points and weights with E f(axes^T z) ~ sum_i weights_i f(points_i @ axes), z standard normal of dimension r.

    `points` (m, r), `weights` (m,); exact for polynomials up to `degree`.
    """

    points: Tensor
    weights: Tensor
    degree: int


def degree3(rank: int, like: Tensor) -> Cubature:
    """2r equally weighted points +- sqrt(r) e_k; exact up to degree 3, so the error is fourth order in the scale."""
    import torch

    unit = torch.eye(rank, dtype=like.dtype, device=like.device) * math.sqrt(rank)
    return Cubature(torch.cat([unit, -unit]), unit.new_full((2 * rank,), 1 / (2 * rank)), 3)


def degree5(rank: int, like: Tensor) -> Cubature:
    """2r^2 + 1 points: the centre, +- a e_k, b (+- e_k +- e_l); exact up to degree 5.

    a = sqrt(r + 2), b = sqrt((r + 2) / 2); weights 2/(r+2), (4-r)/(2 (r+2)^2) (negative for r > 4), 1/(r+2)^2.
    """
    import torch

    unit = torch.eye(rank, dtype=like.dtype, device=like.device)
    a, b = math.sqrt(rank + 2), math.sqrt((rank + 2) / 2)
    k, m = torch.triu_indices(rank, rank, offset=1)
    plus, minus = unit[k] + unit[m], unit[k] - unit[m]
    points = torch.cat([unit.new_zeros(1, rank), a * unit, -a * unit, b * plus, -b * plus, b * minus, -b * minus])
    weights = torch.cat(
        [
            unit.new_full((1,), 2 / (rank + 2)),
            unit.new_full((2 * rank,), (4 - rank) / (2 * (rank + 2) ** 2)),
            unit.new_full((4 * len(k),), 1 / (rank + 2) ** 2),
        ]
    )
    return Cubature(points, weights, 5)


def rotation(rank: int, seed: int, like: Tensor) -> Tensor:
    """A keyed rotation (rank, rank), uniform over the orthogonal group: Q of a Gaussian matrix, signs fixed by R.

    Rotated axes are as good a square root of Xi, and a better one for a cubature: along the principal axes themselves
    the points lie where a network is least typical (seven times the error at the natural scale of a digits run).
    """
    import torch

    q, r = torch.linalg.qr(normal((rank, rank), seed, "rotation"))
    return (q * r.diagonal().sign()).to(like)


def antithetic(coefficients: Tensor) -> Tensor:
    """Coefficients (K, r) followed by their negatives, (2K, r): all odd moments vanish exactly."""
    import torch

    return torch.cat([coefficients, -coefficients])


@dataclass(frozen=True)
class Noise:
    """What a gradient may draw at one step for the given rows; `cloud` gives the ensemble's, if any.

    `path` keeps the draws of others, such as a twin, apart from the replicas'.
    """

    step: int
    rows: tuple[Row, ...]
    cloud: Callable[[], Cloud] | None = None
    path: tuple[Key, ...] = ()

    def normal(self, matrix: Tensor, purpose: str, sample: int = 0) -> Tensor:
        """Standard normal noise like `matrix` (rows, d); another `sample` is an independent draw."""
        return normal_rows(matrix, self.rows, *self.path, purpose, self.step, sample)

    def coefficients(self, size: int, purpose: str, sample: int = 0) -> np.ndarray:
        """Standard normal numbers, shape (rows, size): each replica's are the same however replicas are sharded."""
        most = 1 + max(replica for _, replica in self.rows)
        draws = {
            seed: generator(seed, *self.path, purpose, self.step, sample).standard_normal((most, size))
            for seed, _ in dict.fromkeys(self.rows)
        }
        return np.stack([draws[seed][replica] for seed, replica in self.rows])
