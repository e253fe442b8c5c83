"""What a few runs allow one to say: an interval for the mean, and whether it lies inside or outside stated bounds.

Below 20 runs Student's t, because the bootstrap's intervals are too short there (BCa covers 0.75 at n = 3, 0.83 at 5);
from 20 on the bias-corrected and accelerated bootstrap (Efron 1987). Its intervals are still short on normal samples:
0.926 at n = 20, 0.94 at 30 and at 50, by our simulation. Verdicts rest on t-tests at every n: equivalence on two
one-sided ones (Schuirmann 1987), several claims judged together by Holm's step-down (Holm 1979). A study may look at
its data twice, for inconclusive verdicts double its seeds once, so each look has Pocock's level (Pocock 1977).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dsgd import randomness

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOTSTRAP_FROM = 20
RESAMPLES = 9999
LEVEL = 0.0294  # Pocock's for two equal looks: together they err in 5 % of studies of one claim
UNAVAILABLE_LIMIT = 0.1  # a claim that lacks a larger share of its measurements is inconclusive

Verdict = Literal["supported", "refuted", "inconclusive"]
Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """An estimated mean of `n` independent values with its confidence limits, None where one value gives none.

    The estimate is None too where there is no value at all.
    """

    estimate: float | None
    lo: float | None
    hi: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        return None if self.lo is None or self.hi is None else (self.hi - self.lo) / 2


@dataclass(frozen=True)
class Claim:
    """A statement that a mean lies inside (low, high), with its data: one value a seed. A bound of None is no bound.

    A control is worded so that holding means it behaved as a control must. `criterion` says the bounds in words.
    `unavailable` of the `measurements` behind the values (None: as many as values) gave no number: these are counted
    in measurements, one a snapshot or a fit, because a seed's value may be the mean of several.
    """

    name: str
    kind: Literal["claim", "control"]
    values: tuple[float, ...]
    low: float | None
    high: float | None
    criterion: str
    unavailable: int = 0
    measurements: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("claim", "control"):
            raise ValueError(f"claim {self.name!r}: kind is 'claim' or 'control', not {self.kind!r}")
        if self.low is None and self.high is None:
            raise ValueError(f"claim {self.name!r} needs a lower bound, an upper bound, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"claim {self.name!r}: the lower bound {self.low:g} exceeds the upper {self.high:g}")
        if not 0 <= self.unavailable <= self.taken:
            raise ValueError(f"claim {self.name!r}: {self.unavailable} of {self.taken} measurements are unavailable")
        try:
            finite(self.values or (0.0,))
        except ValueError as error:
            raise ValueError(f"claim {self.name!r}: {error}") from error

    @property
    def taken(self) -> int:
        """The number of measurements behind the values, the unavailable ones included."""
        return len(self.values) + self.unavailable if self.measurements is None else self.measurements

    @property
    def incomplete(self) -> bool:
        """Whether too little was measured for a verdict: no value, or more than a tenth of them unavailable."""
        return not self.values or self.unavailable > UNAVAILABLE_LIMIT * self.taken

    @property
    def exact(self) -> bool:
        """Whether the values show no spread, so that there is nothing to test: they are compared with the bounds."""
        return len(set(self.values)) == 1 and not self.incomplete

    def accepts(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True)
class Judged:
    """A claim's verdict and what it rests on; `margin` is the distance from the estimate to the nearest bound.

    A verdict is reached, roughly, when `half_width` (of the 95 % interval; None for one value) is below `margin`.
    `p_inside` and `p_outside` are adjusted for the study's other claims, None where nothing was tested. Estimate and
    margin are None where there is no value.
    """

    claim: Claim
    interval: Interval
    verdict: Verdict
    margin: float | None
    p_inside: float | None
    p_outside: float | None

    def row(self) -> dict[str, object]:
        """Its line in a study's summary, in plain values."""
        claim, interval = self.claim, self.interval
        return {
            "name": claim.name,
            "kind": claim.kind,
            "estimate": interval.estimate,
            "ci": [interval.lo, interval.hi],
            "criterion": claim.criterion,
            "verdict": self.verdict,
            "half_width": interval.half_width,
            "margin": self.margin,
            "n": interval.n,
            "unavailable": claim.unavailable,
            "measurements": claim.taken,
            "low": claim.low,
            "high": claim.high,
            "p_inside": self.p_inside,
            "p_outside": self.p_outside,
        }


def judge(claims: Sequence[Claim]) -> list[Judged]:
    """The verdicts on all claims of a study, in order.

    Supported: the Holm-adjusted p of lying inside the bounds is below LEVEL = 0.0294 (two one-sided tests); refuted:
    that of lying outside is; else inconclusive. That is Pocock's level for two looks, at n seeds and at 2n, the
    second only where the first left something open: a claim on its own is wrongly supported in 5 % of studies (4.9 to
    5.1 by our simulation with n = 5 to 20, its mean on the bound) or wrongly refuted (4.9 to 5.2), where 0.05 at each
    look would give 8 %; any one of several is in at most 2 * 0.0294 = 5.9 %.
    Values without spread (an exact quantity, or one run) are compared with the bounds directly, and count among the
    others with p = 0 or 1. A claim that lacks more than a tenth of its measurements is inconclusive, and counts with
    p = 1.
    """
    inside, outside = holm([_inside_p(claim) for claim in claims]), holm([_outside_p(claim) for claim in claims])
    return [_judged(*judged) for judged in zip(claims, inside, outside, strict=True)]


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent `values` with its two-sided confidence interval.

    One value has no interval; equal values have one of no width. ValueError for no values or one that is not finite.
    """
    numbers = finite(values)
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return Interval(mean, None, None, 1)
    if np.ptp(numbers) == 0:
        return Interval(float(numbers[0]), float(numbers[0]), float(numbers[0]), len(numbers))
    limits = _t_limits if len(numbers) < BOOTSTRAP_FROM else _bootstrap_limits
    return Interval(mean, *limits(numbers, level), len(numbers))


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean of independent `values` with Student's interval, whatever their number: for an estimator's own draws.

    A smooth function of the values, so that rounding moves it as little as them.
    """
    numbers = finite(values)
    mean = math.fsum(numbers) / len(numbers)
    lo, hi = _t_limits(numbers, level) if len(numbers) > 1 else (None, None)
    return Interval(mean, lo, hi, len(numbers))


def shown(interval: Interval, digits: int = 2) -> str:
    """An interval in print: its estimate, and its limits in brackets where it has any."""
    if interval.estimate is None:
        return "not available"
    limits = "" if interval.lo is None else f" [{interval.lo:.{digits}f}, {interval.hi:.{digits}f}]"
    return f"{interval.estimate:.{digits}f}{limits}"


def nested_interval(groups: Sequence[Sequence[float]], level: float = 0.95) -> Interval:
    """The mean over runs of each run's mean, one group the values (snapshots) of one run.

    Values within a run depend on each other, so only the runs count as independent: `n` is the number of groups.
    """
    return mean_interval([math.fsum(finite(group)) / len(group) for group in groups], level)


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The least-squares slope of log y on log x: the power of the law y ~ x^slope. ValueError unless all are > 0."""
    xs, ys = finite(x), finite(y)
    if len(xs) != len(ys):
        raise ValueError(f"a slope needs as many y as x, not {len(ys)} and {len(xs)}")
    if min(xs.min(), ys.min()) <= 0:
        raise ValueError(
            f"a log-log slope needs positive numbers; the least x is {xs.min():g}, the least y {ys.min():g}"
        )
    if np.ptp(xs) == 0:
        raise ValueError("a slope needs at least two different x")
    log_x, log_y = np.log(xs) - np.log(xs).mean(), np.log(ys)
    return float(log_x @ log_y / (log_x @ log_x))


def rank_correlation(x: Sequence[float | None], y: Sequence[float | None]) -> float | None:
    """Spearman's: the correlation of the ranks, equal values sharing theirs; None where it is not defined.

    That is where a value is missing or not finite, or all x or all y are equal.
    """
    from scipy import stats

    xs, ys = (np.asarray([math.nan if value is None else value for value in values], dtype=float) for values in (x, y))
    if not (np.isfinite(xs).all() and np.isfinite(ys).all() and len(xs)) or not (np.ptp(xs) and np.ptp(ys)):
        return None
    return float(stats.spearmanr(xs, ys).statistic)


def equivalence_p(values: Sequence[float], low: float | None, high: float | None) -> float:
    """p of the data had the mean NOT been inside (low, high): the larger of the one-sided t-tests' p. None: no bound.

    Small p: the mean lies inside. ValueError below two values or without any bound.
    """
    return max(_tails(values, low, high))


def outside_p(values: Sequence[float], low: float | None, high: float | None) -> float:
    """p of the data had the mean NOT been outside (low, high): the least of the one-sided p, times their number.

    Small p: the mean lies outside; below 0.05 with two bounds exactly when the 95 % t-interval misses (low, high).
    """
    tails = _tails(values, low, high)
    return min(1.0, len(tails) * min(1 - p for p in tails))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Adjusted p-values in the given order: the k-th smallest of m times m - k + 1, made monotone, at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def finite(values: Sequence[float]) -> Numbers:
    """`values` as an array. ValueError when there are none, or one is missing or not finite."""
    numbers = np.asarray([math.nan if value is None else value for value in values], dtype=float)
    if not len(numbers):
        raise ValueError("statistics need at least one value")
    for place, number in enumerate(numbers):
        if not math.isfinite(number):
            raise ValueError(f"statistics need finite numbers; value {place + 1} of {len(numbers)} is {number:g}")
    return numbers


def _inside_p(claim: Claim) -> float:
    if claim.exact:
        return 0.0 if claim.accepts(claim.values[0]) else 1.0
    return 1.0 if claim.incomplete else equivalence_p(claim.values, claim.low, claim.high)


def _outside_p(claim: Claim) -> float:
    if claim.exact:
        return 1.0 - _inside_p(claim)
    return 1.0 if claim.incomplete else outside_p(claim.values, claim.low, claim.high)


def _judged(claim: Claim, p_inside: float, p_outside: float) -> Judged:
    verdict: Verdict = "supported" if p_inside < LEVEL else "refuted" if p_outside < LEVEL else "inconclusive"
    interval = mean_interval(claim.values) if claim.values else Interval(None, None, None, 0)
    tested = (None, None) if claim.incomplete or claim.exact else (p_inside, p_outside)
    return Judged(claim, interval, verdict, _margin(claim), *tested)


def _margin(claim: Claim) -> float | None:
    if not claim.values:
        return None
    estimate = math.fsum(claim.values) / len(claim.values)
    return min(abs(estimate - bound) for bound in (claim.low, claim.high) if bound is not None)


def _tails(values: Sequence[float], low: float | None, high: float | None) -> list[float]:
    """For each bound given, the one-sided p that the mean is on the accepted side of it."""
    from scipy import stats

    numbers = finite(values)
    if len(numbers) < 2:
        raise ValueError("a test needs at least two values")
    if low is None and high is None:
        raise ValueError("a test needs a lower bound, an upper bound, or both")
    error = numbers.std(ddof=1) / math.sqrt(len(numbers))
    if error == 0:
        raise ValueError("a test needs values that vary; equal ones are compared with the bounds directly")
    above = [] if low is None else [(numbers.mean() - low) / error]
    below = [] if high is None else [(high - numbers.mean()) / error]
    return [float(stats.t.sf(t, len(numbers) - 1)) for t in above + below]


def _t_limits(numbers: Numbers, level: float) -> tuple[float, float]:
    from scipy import stats

    reach = stats.t.ppf((1 + level) / 2, len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers))
    return float(numbers.mean() - reach), float(numbers.mean() + reach)


def _bootstrap_limits(numbers: Numbers, level: float) -> tuple[float, float]:
    """BCa limits; the resamples are keyed by the values, so the same values always get the same limits.

    Student's where BCa has none, as for values that differ by rounding alone.
    """
    from scipy import stats

    stream = randomness.generator(0, "bootstrap", numbers.tobytes().hex())
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (numbers,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", random_state=stream
        )
    limits = float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)
    return limits if all(map(math.isfinite, limits)) else _t_limits(numbers, level)
