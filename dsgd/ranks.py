"""Ranks, what two rankings have in common, and the spread of a number that is not a mean of one value a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import StatisticsError, correlation


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the largest; equal values share the mean of their ranks."""
    return [sum(v > value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def linear_correlation(ones: Sequence[float], others: Sequence[float]) -> float | None:
    """Pearson's; None where one of the two does not vary, or there are fewer than two pairs."""
    try:
        return correlation(ones, others)
    except StatisticsError:
        return None


def rank_correlation(ones: Sequence[float | None], others: Sequence[float | None]) -> float | None:
    """Spearman's over the pairs that are whole; None where there is none."""
    pairs = [(a, b) for a, b in zip(ones, others, strict=True) if a is not None and b is not None]
    return linear_correlation(ranks([a for a, _ in pairs]), ranks([b for _, b in pairs]))


def pseudo_values(of: Callable[[Sequence[int]], float | None], count: int) -> list[float | None]:
    """The jackknife's, one a place (Tukey 1958): n of(all) - (n - 1) of(all but i), n = `count`.

    Their mean estimates the number, and their spread its error, as if it were a mean. None where it is unavailable;
    one place alone has the number itself.
    """
    everything = range(count)
    whole = of(everything)
    if count < 2 or whole is None:
        return [whole] * count
    rest = [of([place for place in everything if place != left]) for left in everything]
    return [None if value is None else count * whole - (count - 1) * value for value in rest]
