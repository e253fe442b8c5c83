"""The instrument: how close D-SGD's mean gradient is to average-direction SAM's, at any ensemble of any loss.

With deviations delta_j = w_j - w and s a scale on all of them at a fixed mean w,
    g        = grad L(w)                                  the centralized SGD gradient
    G_D(s)   = (1/n) sum_j grad L(w + s delta_j)          D-SGD's
    G_A(s)   = E grad L(w + s e), e ~ N(0, Xi)            average-direction SAM's
    G_sym(s) = (G_D(s) + G_D(-s)) / 2
theorem 1 of Zhu et al. 2023 (arXiv 2306.02913) says that G_D - G_A is of higher order in s than G_A - g. For a smooth
loss the log-log slopes in s are: |G_A - g| 2, |G_D - G_A| 3 (skewness), |G_sym - G_A| 4 (kurtosis), their ratio
|G_D - G_A| / |G_A - g| 1, 1 - cos(G_D - g, G_A - g) 2, and |mean_j L(w + s delta_j) - L(w) - s^2 tr(H Xi)/2| 3.

A slope is fitted at the smallest five consecutive scales where the quantity and all it is made of lie 100 times above
their rounding error. Where such a window is not stable (the quantity changes its sign in it, or its four successive
slopes differ by more than 1/2, so that two orders could not be told apart) the scales are continued downwards, octave
by octave, until it is or until rounding is reached: then the slope is unavailable. Larger scales are never taken
instead, for they lie further from the limit. Sampled slopes (ReLU) scatter by nature and are fitted as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dsgd.curvature import Grads, Hessian
from dsgd.perturbations import Cubature, antithetic, cloud, degree3, degree5, rotation
from dsgd.randomness import normal
from dsgd.statistics import log_slope

if TYPE_CHECKING:
    from torch import Tensor

DEGREE5_RANK = 40  # above this rank 2r^2 + 1 gradients are too many: degree 3, and no symmetrised residual
OCTAVES = tuple(2.0**-k for k in range(11))
SHOT_NOISE_OCTAVES = (1.0, *(2.0**-k for k in range(3, 9)))
SHOT_NOISE = 2.0**-4  # the largest scale of a fit to sampled values
FITTED = 5  # scales in a slope fit: four octaves
STABLE = 0.5  # how much the successive slopes in a fit may differ
SMALLEST = 2.0**-16  # the scale at which a search for a stable window ends
CLEARANCE = 100.0  # how far above the measured rounding floor a fitted quantity must lie
ROUNDING_SCALE = 2.0**-26  # here every true difference is far below float64 rounding: what is left is the floor

QUANTITIES = ("correction", "residual", "symmetrised", "ratio", "one_minus_cosine", "loss_gap")
Curves = dict[str, list[float | None]]


@dataclass(frozen=True)
class Probe:
    """One ensemble and one loss, in float64: rows (n, d) and `loss` of one row.

    `kernels` (k, d) -> (k, d) are its gradients where there is a quicker way than differentiating `loss`; `local_grads`
    (n, d) -> (n, d) are the replicas' own where their losses differ, `loss` being their mean. `block` rows are
    differentiated at once. `sampled` are the scales of a loss that is not smooth, the first of them 1.
    """

    rows: Tensor
    loss: Callable[[Tensor], Tensor]
    kernels: Grads | None = None
    local_grads: Grads | None = None
    block: int = 32
    pairs: int = 256
    seed: int = 0
    sampled: tuple[float, ...] = SHOT_NOISE_OCTAVES

    @cached_property
    def centre(self) -> Tensor:
        return self.rows.mean(dim=0)

    @cached_property
    def deviations(self) -> Tensor:
        return cloud(self.rows).deviations

    @cached_property
    def axes(self) -> Tensor:
        """A square root of Xi, shape (rank, d), turned at random so that no cubature point is a principal direction."""
        axes = cloud(self.rows).axes
        return rotation(len(axes), self.seed, axes) @ axes

    @cached_property
    def grads(self) -> Grads:
        """Gradients (k, d) at points (k, d)."""
        from torch.func import grad, vmap

        return self.kernels or vmap(grad(self.loss), chunk_size=self.block)

    @cached_property
    def g(self) -> Tensor:
        if self.local_grads is None:
            return self.grads(self.centre[None])[0]
        return self.local_grads(self.centre.expand_as(self.rows)).mean(dim=0)

    def g_d(self, s: float) -> Tensor:
        """D-SGD's mean gradient at scale s, shape (d,)."""
        grads = self.local_grads or self.grads
        return grads(self.centre + s * self.deviations).mean(dim=0)

    def weighted(self, rule: Cubature, s: float) -> Tensor:
        """sum_i weight_i grad L(w + s point_i @ axes), shape (d,), in blocks: no more than `block` points are held."""
        total = self.centre.new_zeros(self.centre.shape)
        for points, weights in zip(rule.points.split(self.block), rule.weights.split(self.block), strict=True):
            total += weights @ self.grads(self.centre + s * (points @ self.axes))
        return total

    @cached_property
    def half_trace_h_xi(self) -> float:
        """tr(H Xi) / 2 at the mean, by n Hessian-vector products."""
        return Hessian((self.loss,), self.centre).trace_h_xi(self.deviations) / 2

    def loss_gap(self, s: float) -> float:
        """mean_j L(w + s delta_j) - L(w) - s^2 tr(H Xi) / 2, with its sign: terms of third and fourth order compete."""
        from torch.func import vmap

        losses = vmap(self.loss, chunk_size=self.block)
        gaps = losses(self.centre + s * self.deviations) - losses(self.centre[None])
        return float(gaps.mean()) - s**2 * self.half_trace_h_xi


def by_cubature(probe: Probe, s: float) -> dict[str, float | None]:
    """The quantities at scale s with G_A by the cubature of degree 5, or 3 above rank 40."""
    rank = len(probe.axes)
    rule = degree5(rank, probe.axes) if rank <= DEGREE5_RANK else degree3(rank, probe.axes)
    g_a = probe.weighted(rule, s) if rank else probe.g
    g_d = probe.g_d(s)
    symmetrised = float(((g_d + probe.g_d(-s)) / 2 - g_a).norm()) if rule.degree == 5 else None
    correction, residual = float((g_a - probe.g).norm()), float((g_d - g_a).norm())
    return {
        "correction": correction,
        "residual": residual,
        "symmetrised": symmetrised,
        "ratio": residual / correction if correction > 0 else None,
        "one_minus_cosine": _one_minus_cosine(g_d - probe.g, g_a - probe.g),
        "loss_gap": probe.loss_gap(s),
    }


def _one_minus_cosine(a: Tensor, b: Tensor) -> float | None:
    """Half the squared distance of the unit vectors: accurate where the cosine rounds to 1."""
    if not (a.norm() > 0 and b.norm() > 0):
        return None
    return float((a / a.norm() - b / b.norm()).square().sum() / 2)


def by_monte_carlo(probe: Probe, s: float) -> dict[str, float | None]:
    """The quantities at scale s with G_A by antithetic pairs; the same draws at every scale.

    Squared norms are inner products of two independent halves, so they are unbiased; None where one comes out negative.
    """
    rank = len(probe.axes)
    halves = []
    for half in range(2):
        draws = normal((max(1, probe.pairs // 2), rank), probe.seed, "equivalence", half)
        points = antithetic(draws.to(probe.axes))
        rule = Cubature(points, points.new_full((len(points),), 1 / len(points)), 1)
        halves.append(probe.weighted(rule, s))
    g_d, g_mean = probe.g_d(s), (halves[0] + halves[1]) / 2
    g_sym = (g_d + probe.g_d(-s)) / 2
    correction = _root((halves[0] - probe.g) @ (halves[1] - probe.g))
    residual = _root((g_d - halves[0]) @ (g_d - halves[1]))
    drift = float((g_d - probe.g).norm())
    cosine = float((g_d - probe.g) @ (g_mean - probe.g)) / (drift * correction) if correction and drift else None
    return {
        "correction": correction,
        "residual": residual,
        "symmetrised": _root((g_sym - halves[0]) @ (g_sym - halves[1])),
        "ratio": residual / correction if residual is not None and correction else None,
        "one_minus_cosine": None if cosine is None else 1 - cosine,
        "loss_gap": probe.loss_gap(s),
    }


def _root(square: Tensor) -> float | None:
    return math.sqrt(float(square)) if square >= 0 else None


def measure(probe: Probe, smooth: bool) -> dict[str, Any]:
    """The values at s = 1 and at the smallest scale above rounding, the slopes, and the curves they were fitted to."""
    scales, curves, clear = _by_octaves(probe) if smooth else _sampled(probe)
    cosines = [None if value is None else 1 - value for value in clear["one_minus_cosine"]]
    first, stable = (0, STABLE) if smooth else (sum(s > SHOT_NOISE for s in scales), math.inf)
    return {
        "correction": curves["correction"][0],
        "residual": curves["residual"][0],
        "ratio": clear["ratio"][0],
        "cosine": cosines[0],
        "symmetrised_residual": curves["symmetrised"][0],
        "limit_ratio": _last(clear["ratio"]),
        "limit_cosine": _last(cosines),
        "half_trace_h_xi": probe.half_trace_h_xi,
        "trace_xi": float(cloud(probe.rows).trace),
        "slopes": {name: fitted_slope(scales[first:], clear[name][first:], stable) for name in QUANTITIES},
        "estimator": _estimator(len(probe.axes), smooth),
        "rank": len(probe.axes),
        "scales": scales,
        "curves": curves,
    }


def _by_octaves(probe: Probe) -> tuple[list[float], Curves, Curves]:
    """Scales, curves and curves above rounding, continued downwards while a quantity may still become stable."""
    scales = list(OCTAVES)
    rows = [by_cubature(probe, s) for s in scales]
    floors = _floors(probe, by_cubature(probe, ROUNDING_SCALE))
    while True:
        curves = _columns(rows)
        clear = _above_floor(curves, floors)
        if scales[-1] <= SMALLEST or not any(_unsettled(scales, clear[name]) for name in QUANTITIES):
            return scales, curves, clear
        scales.append(scales[-1] / 2)
        rows.append(by_cubature(probe, scales[-1]))


def _sampled(probe: Probe) -> tuple[list[float], Curves, Curves]:
    """Scales, curves and curves above rounding by Monte Carlo."""
    curves = _columns([by_monte_carlo(probe, s) for s in probe.sampled])
    floors = _floors(probe, by_monte_carlo(probe, ROUNDING_SCALE))
    return list(probe.sampled), curves, _above_floor(curves, floors)


def _columns(rows: Sequence[Mapping[str, float | None]]) -> Curves:
    return {name: [row[name] for row in rows] for name in QUANTITIES}


def _unsettled(scales: Sequence[float], values: Sequence[float | None]) -> bool:
    """Whether the smallest scale is above rounding and yet no stable window ends there."""
    return values[-1] is not None and fitted_slope(scales, values, STABLE) is None


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _estimator(rank: int, smooth: bool) -> str:
    if not smooth:
        return "antithetic_monte_carlo"
    return "cubature_degree_5" if rank <= DEGREE5_RANK else "cubature_degree_3"


def _floors(probe: Probe, tiny: Mapping[str, float | None]) -> dict[str, float]:
    """The rounding error of each quantity: its value at the scale `tiny`, where the true one is far below it."""
    unit = 2.0**-52 * float(probe.g.norm() + 1e-300)
    floors = {name: max(unit, tiny[name] or 0.0) for name in ("correction", "residual", "symmetrised")}
    floors["loss_gap"] = max(2.0**-52 * abs(float(probe.loss(probe.centre))), abs(tiny["loss_gap"] or 0.0))
    return floors


def _above_floor(curves: Curves, floors: Mapping[str, float]) -> Curves:
    """The curves with None wherever a value, or one it is made of, is not clear of its rounding floor."""

    def clear(name: str) -> list[bool]:
        return [v is not None and abs(v) > CLEARANCE * floors[name] for v in curves[name]]

    seen = {name: clear(name) for name in floors}
    seen["ratio"] = [a and b for a, b in zip(seen["residual"], seen["correction"], strict=True)]
    across = [  # the part of the residual across the correction, by which alone the cosine differs from 1
        None if cos is None or corr is None else math.sqrt(max(0, 2 * cos)) * corr
        for cos, corr in zip(curves["one_minus_cosine"], curves["correction"], strict=True)
    ]
    seen["one_minus_cosine"] = [
        ok and part is not None and part > CLEARANCE * floors["residual"]
        for ok, part in zip(seen["ratio"], across, strict=True)
    ]
    return {name: [v if ok else None for v, ok in zip(curves[name], seen[name], strict=True)] for name in QUANTITIES}


def fitted_slope(scales: Sequence[float], values: Sequence[float | None], stable: float) -> float | None:
    """The log-log slope of |values| over the smallest FITTED consecutive scales that have one.

    None where there are too few, where the values change their sign, or where the successive slopes differ by more than
    `stable`.
    """
    starts = range(len(values) - FITTED, -1, -1)
    start = next((k for k in starts if None not in values[k : k + FITTED]), None)
    if start is None:
        return None
    x, y = scales[start : start + FITTED], [v for v in values[start : start + FITTED] if v is not None]
    if min(y) <= 0 <= max(y):
        return None
    sizes = [abs(v) for v in y]
    successive = [log_slope(x[k : k + 2], sizes[k : k + 2]) for k in range(FITTED - 1)]
    return log_slope(x, sizes) if max(successive) - min(successive) <= stable else None
