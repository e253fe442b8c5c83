"""Straight lines through the mean of replicas, and how the gradient changes along them where noise has shifted them.

The noise e is N(0, Xi), Xi the covariance of the replicas, or isotropic with the same trace. Means over it are over
antithetic pairs of draws in GROUPS groups, the same for all points and lines: what differs between the groups says how
far they can be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dsgd.curvature import Grads
from dsgd.perturbations import Cloud, antithetic, cloud
from dsgd.randomness import normal

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = 8  # of draws: the least number of antithetic pairs

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class OfReplicas:
    """N(0, Xi), Xi the replicas' covariance, in numbered antithetic pairs of draws."""

    spread: Cloud
    pairs: int
    seed: int

    @cached_property
    def coefficients(self) -> Tensor:
        return self.spread.coefficients(self.pairs, self.seed, "smoothing", "draws")

    def pair_draws(self, first: int, last: int) -> Tensor:
        """The pairs from `first` to before `last`, shape (2 (last - first), d)."""
        return antithetic(self.spread.offsets(self.coefficients[first:last]))

    def inverse_form(self, u: Tensor) -> float:
        """u^T Xi^+ u for u in the range of Xi."""
        axes = self.spread.axes
        return float((axes @ u / axes.square().sum(dim=1)).square().sum())


@dataclass(frozen=True)
class Isotropic:
    """N(0, variance I), the same for draws like `point` (d,)."""

    variance: float
    point: Tensor
    seed: int

    def pair_draws(self, first: int, last: int) -> Tensor:
        import torch

        pairs, size = range(first, last), self.point.shape
        drawn = torch.stack([normal(size, self.seed, "smoothing", "isotropic", pair) for pair in pairs])
        return antithetic(math.sqrt(self.variance) * drawn.to(self.point))

    def inverse_form(self, u: Tensor) -> float:
        return 1 / self.variance


@dataclass(frozen=True)
class Line:
    """The points centre + t u with |t| <= half, u a unit vector."""

    centre: Tensor
    u: Tensor
    half: float

    def grid(self, points: int) -> tuple[Tensor, float]:
        """Equally spaced points (points, d), and their distance."""
        import torch

        ts = torch.linspace(-self.half, self.half, points, dtype=self.u.dtype, device=self.u.device)
        return self.centre + ts[:, None] * self.u, 2 * self.half / (points - 1)


@dataclass(frozen=True)
class Found:
    """What was found along one line of S segments, in changes of the gradient per distance.

    `own` (S,) are norms; `inner` (GROUPS, GROUPS, S) the inner products of the groups' mean changes; `squares`
    (GROUPS, S) the groups' mean squared norms; `largest_change` that of any draw and `largest_gradient` of any point.
    """

    line: Line
    own: Numbers
    inner: Numbers
    squares: Numbers
    largest_change: float
    largest_gradient: float

    @property
    def own_constant(self) -> float:
        return float(self.own.max())

    def nearby(self, groups: Sequence[int]) -> float:
        return math.sqrt(self.squares[list(groups)].mean(axis=0).max())

    def smoothed(self, groups: Sequence[int]) -> float:
        inner = self.inner[np.ix_(groups, groups)]
        across = inner.sum(axis=(0, 1)) - np.trace(inner)
        return math.sqrt(max(0.0, across.max() / (len(groups) * (len(groups) - 1))))


@dataclass(frozen=True)
class Lines:
    """The measurement at the mean of `rows` (n, d), in float64; `grads` (k, d) -> (k, d) are the loss's gradients.

    All deviations from the mean are multiplied by `scale`. Lines in the span of the deviations have directions
    N(0, Xi) drawn and normalised: those in which replicas are apart, with a standard deviation sd of them along each;
    the others have random directions orthogonal to the span, and the same lengths, `reach` sd to both sides, with
    `points` points on each. With `isotropic` the noise is N(0, Tr Xi / d I), on the same lines. About `block` points,
    or those of one pair, are looked at at once, and GROUPS * `points` gradients more are held.
    """

    rows: Tensor
    grads: Grads
    directions: int = 8
    pairs: int = 64
    points: int = 5
    reach: float = 1.0
    scale: float = 1.0
    isotropic: bool = False
    block: int = 256
    seed: int = 0

    @cached_property
    def centre(self) -> Tensor:
        return self.rows.mean(dim=0)

    @cached_property
    def spread(self) -> Cloud:
        return Cloud(self.scale * cloud(self.rows).deviations)

    @cached_property
    def noise(self) -> OfReplicas | Isotropic:
        if self.isotropic:
            return Isotropic(float(self.spread.trace) / len(self.centre), self.centre, self.seed)
        return OfReplicas(self.spread, self.pairs, self.seed)

    def span_lines(self) -> Iterator[Line]:
        for direction in range(self.directions):
            u = _unit(self.spread.offsets(self.spread.coefficients(1, self.seed, "smoothing", "span", direction))[0])
            along = (self.spread.deviations @ u).square().mean().sqrt()
            yield Line(self.centre, u, self.reach * float(along))

    def off_lines(self) -> Iterator[Line]:
        """Lines orthogonal to the span; none where that is the whole space."""
        if len(self.spread.axes) == len(self.centre):
            return
        basis = self.spread.axes / self.spread.axes.norm(dim=1, keepdim=True)
        for direction, beside in enumerate(self.span_lines()):
            u = normal(self.centre.shape, self.seed, "smoothing", "off", direction).to(self.centre)
            for _ in range(2):  # once leaves rounding of the first length
                u = _unit(u - (basis @ u) @ basis)
            yield Line(self.centre, u, beside.half)

    def along(self, line: Line) -> Found:
        """The changes of the gradient on the line, shifted by no noise and by all of it."""
        import torch

        at, width = line.grid(self.points)
        g = self.grads(at)
        own = g.diff(dim=0) / width
        means = own.new_zeros((GROUPS, *own.shape))
        squares = own.new_zeros((GROUPS, len(own)))
        largest_change, largest_gradient = 0.0, float(g.norm(dim=1).max())
        for group, numbers in enumerate(np.array_split(np.arange(self.pairs), GROUPS)):
            for shifts in self._shifts(numbers[0], numbers[-1] + 1):
                g = self.grads((at + shifts[:, None]).flatten(0, 1)).view(len(shifts), *at.shape)
                changes = g.diff(dim=1) / width
                sizes = changes.norm(dim=2)
                means[group] += changes.sum(dim=0) / (2 * len(numbers))
                squares[group] += sizes.square().sum(dim=0) / (2 * len(numbers))
                largest_change = max(largest_change, float(sizes.max()))
                largest_gradient = max(largest_gradient, float(g.norm(dim=2).max()))
        inner = torch.stack([segment @ segment.T for segment in means.unbind(dim=1)], dim=2)
        norms, inner_products, sums = (array.cpu().numpy() for array in (own.norm(dim=1), inner, squares))
        return Found(line, norms, inner_products, sums, largest_change, largest_gradient)

    def _shifts(self, first: int, last: int) -> Iterator[Tensor]:
        """The draws of these pairs, some at a time."""
        step = max(1, self.block // (2 * self.points))
        for start in range(first, last, step):
            yield self.noise.pair_draws(start, min(start + step, last))


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()
