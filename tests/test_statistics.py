"""Intervals, tests and verdicts against numbers worked out by hand, against statsmodels, and by repeated sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsgd.statistics import (
    LEVEL,
    Claim,
    Interval,
    equivalence_p,
    holm,
    judge,
    log_slope,
    mean_interval,
    nested_interval,
    outside_p,
    rank_correlation,
)


def claim(values, low=None, high=None, kind="claim", name="c"):
    return Claim(name, kind, tuple(values), low, high, "as stated")


def verdicts(*claims):
    return [one.verdict for one in judge(claims)]


def test_a_t_interval_worked_by_hand():
    interval = mean_interval([1.0, 2.0, 3.0])
    quantile = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # Student's t for 2 degrees of freedom has this closed form
    reach = quantile / math.sqrt(3)
    assert (interval.estimate, interval.n) == (2.0, 3)
    assert interval.lo == pytest.approx(2 - reach, rel=1e-12)
    assert interval.hi == pytest.approx(2 + reach, rel=1e-12)
    assert interval.half_width == pytest.approx(reach, rel=1e-12)


def test_one_value_has_no_interval_and_equal_ones_have_one_of_no_width():
    assert mean_interval([3.0]) == Interval(3.0, None, None, 1)
    assert mean_interval([3.0]).half_width is None
    for n in (2, 25):
        assert mean_interval([0.1] * n) == Interval(0.1, 0.1, 0.1, n)


def test_from_20_values_on_the_interval_is_bootstrapped_and_follows_the_skew():
    values = np.random.default_rng(0).exponential(size=25)
    interval = mean_interval(values)
    assert interval == mean_interval(values)
    assert interval.hi - interval.estimate > 1.1 * (interval.estimate - interval.lo)
    symmetric = mean_interval(values[:19])
    assert symmetric.hi - symmetric.estimate == pytest.approx(symmetric.estimate - symmetric.lo)


@pytest.mark.parametrize(("n", "trials", "coverage"), [(3, 2000, 0.95), (10, 2000, 0.95), (20, 600, 0.926)])
def test_intervals_cover_the_mean_of_normal_values_as_often_as_measured(n, trials, coverage):
    """The bootstrap's 0.926 at n = 20 is what 12,000 other samples gave, not its nominal 0.95; t gives that."""
    samples = np.random.default_rng(n).normal(size=(trials, n))
    intervals = [mean_interval(sample) for sample in samples]
    covered = np.mean([interval.lo <= 0 <= interval.hi for interval in intervals])
    assert covered == pytest.approx(coverage, abs=3 * math.sqrt(coverage * (1 - coverage) / trials))


def test_snapshots_of_a_run_do_not_count_as_runs():
    runs = [[1.0, 1.0, 1.0, 1.0], [2.0, 2.0], [3.0]]
    assert nested_interval(runs) == mean_interval([1.0, 2.0, 3.0])


def test_the_slope_of_a_power_law_is_its_power():
    x = np.array([0.1, 0.2, 0.7, 1.5])
    assert log_slope(x, 5 * x**3) == pytest.approx(3.0, abs=1e-12)
    assert log_slope([1, math.e, math.e**2], [1, math.e, 1]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [0, 1], r"needs positive numbers; the least x is 1, the least y 0"),
        ([-1, 2], [1, 1], r"the least x is -1"),
        ([1, 1], [1, 2], r"two different x"),
        ([1, 2, 3], [1, 2], r"as many y as x, not 2 and 3"),
        ([1, 2], [1, math.nan], r"value 2 of 2 is nan"),
    ],
)
def test_a_slope_that_means_nothing_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        log_slope(x, y)


@pytest.mark.parametrize(("values", "word"), [([], "at least one"), ([1, None], "value 2 of 2 is nan")])
def test_missing_values_are_refused(values, word):
    with pytest.raises(ValueError, match=word):
        mean_interval(values)


def test_one_sided_p_worked_by_hand():
    # mean 2, standard error 1/sqrt(3); for 2 degrees of freedom P(T > t) = 1/2 - t / (2 sqrt(2 + t^2))
    t = math.sqrt(3)
    expected = 0.5 - t / (2 * math.sqrt(2 + t**2))
    assert equivalence_p([1, 2, 3], 1.0, None) == pytest.approx(expected, rel=1e-10)
    assert equivalence_p([1, 2, 3], None, 3.0) == pytest.approx(expected, rel=1e-10)
    assert equivalence_p([1, 2, 3], 1.0, 3.0) == pytest.approx(expected, rel=1e-10)
    assert outside_p([1, 2, 3], 3.0, None) == pytest.approx(expected, rel=1e-10)
    assert outside_p([1, 2, 3], 3.0, 5.0) == pytest.approx(2 * expected, rel=1e-10)


def test_statsmodels_agrees():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    values = np.random.default_rng(1).normal(2.0, 0.3, size=12)
    p, *_ = weightstats.DescrStatsW(values).ttost_mean(1.8, 2.3)
    assert equivalence_p(values, 1.8, 2.3) == pytest.approx(p)
    pvalues = [0.01, 0.04, 0.03, 0.005]
    assert holm(pvalues) == pytest.approx(multitest.multipletests(pvalues, method="holm")[1])


def test_two_bounds_are_missed_exactly_when_the_interval_misses_them():
    for shift in np.linspace(-3, 3, 61):
        values = np.array([-0.5, 0.1, 0.2, 0.4]) + shift
        interval = mean_interval(values)
        assert (outside_p(values, -1, 1) < 0.05) == (interval.lo > 1 or interval.hi < -1)


def test_a_test_needs_bounds_and_spread():
    with pytest.raises(ValueError, match="needs a lower bound, an upper bound, or both"):
        equivalence_p([1, 2], None, None)
    with pytest.raises(ValueError, match="at least two values"):
        outside_p([1], 0, 2)
    with pytest.raises(ValueError, match="values that vary"):
        outside_p([1, 1], 0, 2)


def test_holm_worked_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(pvalues):
    adjusted = holm(pvalues)
    assert all(p <= a <= min(1.0, len(pvalues) * p) + 1e-12 for p, a in zip(pvalues, adjusted, strict=True))
    by_p = [a for _, a in sorted(zip(pvalues, adjusted, strict=True))]
    assert by_p == sorted(by_p)


def test_each_verdict():
    tight, wide = [2.0, 2.01, 1.99, 2.02, 1.98], [1.5, 2.5, 1.7, 2.3, 2.0]
    assert verdicts(claim(tight, 1.9, 2.1)) == ["supported"]
    assert verdicts(claim(tight, 2.9, 3.1)) == ["refuted"]
    assert verdicts(claim(tight, 1.0, 1.5)) == ["refuted"]
    assert verdicts(claim(wide, 1.9, 2.1)) == ["inconclusive"]
    assert verdicts(claim(tight, low=1.9)) == ["supported"]
    assert verdicts(claim(tight, high=1.9)) == ["refuted"]


def test_a_verdict_tells_how_far_the_bound_is():
    (judged,) = judge([claim([1.5, 2.5, 1.7, 2.3, 2.0], 1.9, 2.3)])
    assert judged.margin == pytest.approx(0.1)
    assert judged.interval.half_width > judged.margin


def test_many_claims_together_need_more_than_one_alone():
    borderline = claim([1.0, 2.0, 3.0, 2.5, 1.5], low=1.0)
    assert equivalence_p(borderline.values, 1.0, None) < LEVEL
    assert verdicts(borderline) == ["supported"]
    hopeless = claim([0.9, 1.5, 1.2, 1.0, 1.4], low=1.2)
    assert verdicts(borderline, hopeless, hopeless, hopeless)[0] == "inconclusive"


def test_values_without_spread_are_compared():
    exact = [claim([1e-14] * 3, high=1e-12), claim([2.0], 1.9, 2.1), claim([2.2], 1.9, 2.1), claim([2.0], low=2.0)]
    assert verdicts(*exact) == ["supported", "supported", "refuted", "supported"]
    for judged in judge(exact):
        assert (judged.p_inside, judged.p_outside) == (None, None)
    assert judge(exact)[0].row()["ci"] == [1e-14, 1e-14]


@pytest.mark.parametrize("n", [1, 6])
def test_values_without_spread_count_among_the_others_as_certain(n):
    """Inside the bounds with p = 0 and outside with 1, or the other way round: as one that a test decides clearly."""
    other = claim([1.0, 2.0, 3.0, 2.5, 1.5], low=1.0)
    inside, outside = equivalence_p(other.values, 1.0, None), outside_p(other.values, 1.0, None)
    for value, counted in ((5.0, (inside, 2 * outside)), (0.5, (2 * inside, outside))):
        *_, judged = judge([claim([value] * n, low=1.0), other])
        assert (judged.p_inside, judged.p_outside) == pytest.approx((counted[0], min(1.0, counted[1])))
    assert verdicts(claim([5.0] * n, low=1.0), other) == ["supported", "supported"]
    assert verdicts(claim([0.5] * n, low=1.0), other) == ["refuted", "inconclusive"]


def test_wrong_support_is_as_rare_as_stated():
    stream = np.random.default_rng(5)

    def study():
        return judge([claim(stream.normal(1.0, 0.1, size=6), 1.0, 1.5, name=str(i)) for i in range(4)])

    rate = np.mean([any(one.verdict == "supported" for one in study()) for _ in range(400)])
    assert rate < 0.06


@pytest.mark.parametrize(
    ("test", "low", "high"), [(equivalence_p, 0.0, None), (equivalence_p, 0.0, 9.0), (outside_p, -9.0, 0.0)]
)
def test_two_looks_at_one_claim_err_in_at_most_one_study_of_twenty(test, low, high):
    """The true mean is on the bound, and twice as many seeds are looked at where the first ten decide nothing."""
    samples = np.random.default_rng(9).normal(size=(2000, 20))
    errors = np.mean([any(test(values[:n], low, high) < LEVEL for n in (10, 20)) for values in samples])
    assert errors < 0.05 + 2 * math.sqrt(0.05 * 0.95 / len(samples))


def test_a_claim_that_lacks_more_than_a_tenth_of_its_measurements_is_inconclusive():
    values = (2.0, 2.01, 1.99, 2.02, 1.98)
    lacking = [Claim("c", "claim", values, 1.9, 2.1, "as stated", k, 20) for k in (0, 2, 3)]
    assert verdicts(*lacking) == ["supported", "supported", "inconclusive"]
    row = judge(lacking)[2].row()
    assert (row["unavailable"], row["measurements"], row["p_inside"]) == (3, 20, None)
    assert row["estimate"] == pytest.approx(2.0)
    assert verdicts(Claim("c", "claim", (2.0,), 1.9, 2.1, "as stated", 1)) == ["inconclusive"]


def test_a_claim_without_any_value_is_inconclusive_and_raises_nothing():
    (judged,) = judge([Claim("c", "claim", (), 1.9, 2.1, "as stated", 5)])
    assert judged.verdict == "inconclusive"
    row = judged.row()
    assert (row["estimate"], row["ci"], row["margin"], row["n"]) == (None, [None, None], None, 0)
    assert (row["unavailable"], row["measurements"]) == (5, 5)


def test_an_incomplete_claim_still_counts_among_the_others():
    borderline = claim([1.0, 2.0, 3.0, 2.5, 1.5], low=1.0)
    assert verdicts(borderline, claim([], low=0.0), claim([], low=0.0)) == ["inconclusive"] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "guess"}, r"claim 'c': kind is 'claim' or 'control', not 'guess'"),
        ({"low": None, "high": None}, r"claim 'c' needs a lower bound"),
        ({"low": 2.0, "high": 1.0}, r"claim 'c': the lower bound 2 exceeds the upper 1"),
        ({"unavailable": 3, "measurements": 2}, r"claim 'c': 3 of 2 measurements are unavailable"),
        ({"values": (1.0, math.nan)}, r"claim 'c': .* value 2 of 2 is nan"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(changed, message):
    whole = {"values": (1.0, 2.0), "low": 0.0, "high": 3.0, "kind": "claim"}
    with pytest.raises(ValueError, match=message):
        Claim(name="c", criterion="as stated", **(whole | changed))


def test_a_row_holds_what_the_summary_promises():
    row = judge([claim([2.0, 2.01, 1.99], 1.9, 2.1)])[0].row()
    assert {"name", "kind", "estimate", "ci", "criterion", "verdict"} <= row.keys()
    assert row["ci"][0] < row["estimate"] < row["ci"][1]
    assert (row["verdict"], row["n"]) == ("supported", 3)


def test_rank_correlation_is_one_for_any_growing_function_and_shares_the_ranks_of_ties() -> None:
    assert rank_correlation([1, 2, 5, 9], [10, 11, 12, 1e9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)  # ranks 1.5 1.5 3 4


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [1.0, None, 2.0], [1.0, math.inf, 2.0]])
def test_rank_correlation_is_not_defined_without_ranks(y: list[float | None]) -> None:
    assert rank_correlation([1.0, 2.0, 3.0], y) is None
    assert rank_correlation(y, [1.0, 2.0, 3.0]) is None


def test_values_that_differ_by_rounding_have_an_interval_and_warn_nobody(recwarn: pytest.WarningsRecorder) -> None:
    values = [1.0 + 2.2e-16 * (i % 7 == 0) for i in range(20)]
    found = mean_interval(values)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= 1.0 <= found.hi
    assert found.hi - found.lo < 1e-14
    assert not recwarn.list
