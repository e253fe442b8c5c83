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
from collections.abc import Callable, Sequence

import numpy as np

from dsgd.metrics.lines import GROUPS, Found, Lines

ALL = range(GROUPS)

Constants = dict[str, float | None]


def measure(lines: Lines) -> Constants:
    """Constants, ratios and their Monte-Carlo standard errors, each the mean over directions; and the bound.

    `lipschitz` is own, `smoothed` smoothed, `ratio` smoothed / own, `surroundings` nearby / own and `cancelling`
    smoothed / nearby, with `_span` or `_off` behind, and `_error` behind that; `spread` is the mean sd along the lines.
    `gradient` is alpha, the largest |grad f| of all points seen: an estimate from below. `bound` is the mean over the
    directions that have one, `bound_share` their largest smoothed / bound, `bound_failures` how many have more than 1,
    and `bound_to_beta` the least bound / beta, beta the largest change seen along that direction: above 1 the bound
    says nothing that beta does not.
    """
    span = [lines.along(line) for line in lines.span_lines()]
    off = [lines.along(line) for line in lines.off_lines()]
    bounded = span + off if lines.isotropic else span
    return _summary(span, off, [(one, lines.noise.inverse_form(one.line.u)) for one in bounded]) | {
        "spread": _mean([one.line.half / lines.reach for one in span]),
        "rank": float(len(lines.spread.axes)),
    }


def unavailable() -> Constants:
    """The names of what `measure` returns, with None."""
    return _summary([], [], []) | {"spread": None, "rank": None}


def _summary(span: Sequence[Found], off: Sequence[Found], bounded: Sequence[tuple[Found, float]]) -> Constants:
    alpha = max((one.largest_gradient for one in (*span, *off)), default=None)
    return _ratios("span", span) | _ratios("off", off) | {"gradient": alpha} | _bound(bounded, alpha or 0.0)


def _ratios(where: str, lines: Sequence[Found]) -> Constants:
    curved = [one for one in lines if one.own_constant > 0]
    values: Constants = {
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


def _bound(lines: Sequence[tuple[Found, float]], alpha: float) -> Constants:
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
