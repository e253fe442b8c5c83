"""How Lipschitz the gradient is along straight lines, of a loss f and of f_Xi(w) = E f(w + e) with e ~ N(0, Xi).

Smoothing is one of the advantages that Zhu et al. 2023 (arXiv 2306.02913) claim for D-SGD, Xi being the covariance of
its n replicas. Their bound, which we know at second hand, follows Bisla et al. 2022 (arXiv 2201.08025): grad f_Xi is
min(sqrt(2) alpha / sigma_min, beta)-Lipschitz, with alpha and beta the Lipschitz constants of f and of grad f and
sigma_min^2 the least eigenvalue of Xi. But the rank of Xi is n - 1 at most, so sigma_min is 0 and the minimum is beta.
One direction u in the range of Xi can be bounded:
    |Hess f_Xi u| = |E grad f(w + e) (e^T Xi^+ u)| <= alpha sqrt(2 / pi) sqrt(u^T Xi^+ u),
by Stein's identity and E |x| of the normal number e^T Xi^+ u, a derivation of ours; f = |u . w| attains it.

A constant along u is the largest |grad(t_k+1) - grad(t_k)| / (t_k+1 - t_k) on a grid of the line centre + t u. Three of
them are compared, E being over the noise e that shifts the line:
    own       that of grad f on the line itself
    nearby    the largest (E |change on the line shifted by e|^2)^(1/2) / width: that of grad f where the noise leads
    smoothed  the largest |E change on the line shifted by e| / width: that of grad f_Xi
so smoothed / own = (nearby / own) (smoothed / nearby): the surroundings' curvature, and what averaging cancels of it,
the second at most 1 by Jensen's inequality.

E is over antithetic pairs of draws in GROUPS groups, the same for all points and lines. |E change|^2 is the mean inner
product of two groups' means, so that noise does not lengthen it; standard errors are the jackknife's over groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dsgd.perturbations import Cloud, antithetic, cloud
from dsgd.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = 8  # of draws: the least number of antithetic pairs
ALL = range(GROUPS)

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Grads = Callable[["Tensor"], "Tensor"]
Values = dict[str, float | None]


@dataclass(frozen=True)
class OfReplicas:
    """N(0, Xi), Xi the replicas' covariance, in numbered antithetic pairs of draws."""

    spread: Cloud
    pairs: int
    seed: int

    @cached_property
    def coefficients(self) -> Tensor:
        import torch

        drawn = generator(self.seed, "smoothing", "draws").standard_normal((self.pairs, self.spread.size))
        return torch.from_numpy(drawn)

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

        streams = (generator(self.seed, "smoothing", "isotropic", pair) for pair in range(first, last))
        drawn = torch.from_numpy(np.stack([stream.standard_normal(len(self.point)) for stream in streams]))
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
class Instrument:
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
        import torch

        for direction in range(self.directions):
            z = generator(self.seed, "smoothing", "span", direction).standard_normal((1, self.spread.size))
            u = _unit(self.spread.offsets(torch.from_numpy(z))[0])
            along = (self.spread.deviations @ u).square().mean().sqrt()
            yield Line(self.centre, u, self.reach * float(along))

    def off_lines(self) -> Iterator[Line]:
        """Lines orthogonal to the span; none where that is the whole space."""
        import torch

        if len(self.spread.axes) == len(self.centre):
            return
        basis = self.spread.axes / self.spread.axes.norm(dim=1, keepdim=True)
        for direction, beside in enumerate(self.span_lines()):
            drawn = generator(self.seed, "smoothing", "off", direction).standard_normal(len(self.centre))
            u = torch.from_numpy(drawn).to(self.centre)
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


def measure(instrument: Instrument) -> Values:
    """Constants, ratios and their Monte-Carlo standard errors, each the mean over directions; and the bound.

    `lipschitz` is own, `smoothed` smoothed, `ratio` smoothed / own, `surroundings` nearby / own and `cancelling`
    smoothed / nearby, with `_span` or `_off` behind, and `_error` behind that; `spread` is the mean sd along the lines.
    `gradient` is alpha, the largest |grad f| of all points seen: an estimate from below. `bound` is the mean over the
    directions that have one, `bound_share` their largest smoothed / bound, `bound_failures` how many have more than 1,
    and `bound_to_beta` the least bound / beta, beta the largest change seen along that direction: above 1 the bound
    says nothing that beta does not.
    """
    span = [instrument.along(line) for line in instrument.span_lines()]
    off = [instrument.along(line) for line in instrument.off_lines()]
    bounded = span + off if instrument.isotropic else span
    return _summary(span, off, [(one, instrument.noise.inverse_form(one.line.u)) for one in bounded]) | {
        "spread": _mean([one.line.half / instrument.reach for one in span]),
        "rank": float(len(instrument.spread.axes)),
    }


def unavailable() -> Values:
    """The names of what `measure` returns, with None."""
    return _summary([], [], []) | {"spread": None, "rank": None}


def _summary(span: Sequence[Found], off: Sequence[Found], bounded: Sequence[tuple[Found, float]]) -> Values:
    alpha = max((one.largest_gradient for one in (*span, *off)), default=None)
    return _ratios("span", span) | _ratios("off", off) | {"gradient": alpha} | _bound(bounded, alpha or 0.0)


def _ratios(where: str, lines: Sequence[Found]) -> Values:
    curved = [one for one in lines if one.own_constant > 0]
    values: Values = {
        f"lipschitz_{where}": _mean([one.own_constant for one in lines]),
        f"smoothed_{where}": _mean([one.smoothed(ALL) for one in lines]),
    }
    of_one: dict[str, Callable[[Found, Sequence[int]], float]] = {
        "ratio": lambda one, groups: one.smoothed(groups) / one.own_constant,
        "surroundings": lambda one, groups: one.nearby(groups) / one.own_constant,
        "cancelling": lambda one, groups: one.smoothed(groups) / one.nearby(groups),
    }
    for name, share in of_one.items():
        values[f"{name}_{where}"] = _mean([share(one, ALL) for one in curved])
        kept = [[share(one, groups) for one in curved] for groups in _all_but_one()]
        values[f"{name}_{where}_error"] = _jackknife(kept)
    return values


def _all_but_one() -> list[list[int]]:
    return [[group for group in range(GROUPS) if group != left_out] for left_out in range(GROUPS)]


def _jackknife(values: Sequence[Sequence[float]]) -> float | None:
    """The standard error of the mean over lines, from the values with each group left out."""
    if not values[0]:
        return None
    means = np.asarray(values).mean(axis=1)
    return float(math.sqrt((GROUPS - 1) / GROUPS * np.square(means - means.mean()).sum()))


def _bound(lines: Sequence[tuple[Found, float]], alpha: float) -> Values:
    bounds = [(one, alpha * math.sqrt(2 / math.pi * form)) for one, form in lines]
    shares = [one.smoothed(ALL) / bound for one, bound in bounds if bound > 0]
    to_beta = [bound / one.largest_change for one, bound in bounds if one.largest_change > 0]
    return {
        "bound": _mean([bound for _, bound in bounds]),
        "bound_share": max(shares, default=None),
        "bound_failures": float(sum(share > 1 for share in shares)) if shares else None,
        "bound_to_beta": min(to_beta, default=None),
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()
