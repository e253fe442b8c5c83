"""Ranks, correlations of ranks, and the jackknife."""

from __future__ import annotations

from statistics import fmean, stdev

import pytest

from dsgd.ranks import linear_correlation, pseudo_values, rank_correlation, ranks


def test_the_largest_is_first_and_equal_values_share_their_ranks() -> None:
    assert ranks([0.2, 0.9, 0.5]) == [3, 1, 2]
    assert ranks([1.0, 3.0, 3.0, 2.0, 3.0]) == [5, 2, 2, 4, 2]
    assert ranks([]) == []


def test_rank_correlation_is_spearmans_over_whole_pairs() -> None:
    from scipy import stats

    ones, others = [3.0, 1.0, 4.0, 1.0, 5.0], [9.0, 2.0, 6.0, 5.0, 3.0]
    assert rank_correlation(ones, others) == pytest.approx(stats.spearmanr(ones, others).statistic)
    assert rank_correlation([*ones, None, 7.0], [*others, 1.0, None]) == rank_correlation(ones, others)
    assert rank_correlation([1.0, 2.0], [None, 3.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert linear_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1)


def test_the_pseudo_values_of_a_mean_are_the_values_themselves() -> None:
    values = [0.3, 1.4, -0.2, 2.0]
    assert pseudo_values(lambda places: fmean(values[p] for p in places), 4) == pytest.approx(values)


def test_the_jackknife_removes_the_bias_of_a_variance() -> None:
    """Of the variance by n the jackknife makes that by n - 1, exactly (Efron 1982, section 2)."""
    values = [0.3, 1.4, -0.2, 2.0, 0.7]

    def by_n(places: object) -> float:
        chosen = [values[p] for p in places]  # type: ignore[attr-defined]
        return fmean((value - fmean(chosen)) ** 2 for value in chosen)

    found = [value for value in pseudo_values(by_n, 5) if value is not None]
    assert fmean(found) == pytest.approx(stdev(values) ** 2)


def test_what_is_unavailable_stays_so() -> None:
    assert pseudo_values(lambda places: None, 3) == [None] * 3
    assert pseudo_values(lambda places: None if 0 not in places else 1.0, 3)[0] is None
    assert pseudo_values(lambda places: 0.5, 1) == [0.5]
