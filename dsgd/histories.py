"""What a study asks of its runs' histories: which runs, the values of a metric, one value a seed, slopes and curves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Literal

from dsgd.plots import Series
from dsgd.statistics import Claim, log_slope

History = Sequence[Mapping[str, Any]]
Histories = Mapping[str, History]
Measurements = Sequence[float | None]


@dataclass(frozen=True)
class Sample:
    """One value a seed, and how many of the measurements behind them were unavailable."""

    values: tuple[float, ...]
    unavailable: int
    measurements: int

    def claim(
        self, name: str, kind: Literal["claim", "control"], low: float | None, high: float | None, criterion: str
    ) -> Claim:
        """The statement that the mean over seeds lies inside (low, high)."""
        return Claim(name, kind, self.values, low, high, criterion, self.unavailable, self.measurements)


def sample(seeds: Iterable[Measurements], of_seed: Callable[[Sequence[float]], float] = fmean) -> Sample:
    """Each seed's measurements reduced to one value; a seed that has none, or only unavailable ones, gives no value."""
    groups = [list(measurements) for measurements in seeds]
    found = [[value for value in group if value is not None] for group in groups]
    taken, available = (sum(map(len, lists)) for lists in (groups, found))
    return Sample(tuple(of_seed(group) for group in found if group), taken - available, taken)


def select(histories: Histories, start: str, seed: int | None = None) -> list[History]:
    """The histories whose label starts with these words, and ends with the seed if one is given."""
    return [histories[label] for label in _labels(histories, start) if seed is None or label.split()[-1] == str(seed)]


def measurements(runs: Iterable[History], name: str) -> list[float | None]:
    """Every value of one metric, None where it was unavailable; rows of other metrics do not count."""
    return [row[name] for rows in runs for row in rows if name in row]


def available(runs: Iterable[History], name: str) -> list[float]:
    """The values of one metric that are there."""
    return [value for value in measurements(runs, name) if value is not None]


def medians(runs: Sequence[History], *names: str) -> list[float | None]:
    """The median of each metric's values; None where all are unavailable."""
    found = (available(runs, name) for name in names)
    return [median(values) if values else None for values in found]


def seeds(histories: Histories, start: str) -> list[int]:
    """The seeds of the runs whose label starts with these words; a label ends with its seed."""
    return sorted({int(label.split()[-1]) for label in _labels(histories, start)})


def by_seed(histories: Histories, start: str, name: str, of_seed: Callable[[Sequence[float]], float] = fmean) -> Sample:
    """One value a seed of a metric: by default the mean over that seed's runs and their snapshots."""
    found = (select(histories, start, seed) for seed in seeds(histories, start))
    return sample((measurements(runs, name) for runs in found), of_seed)


def ladders(histories: Histories, start: str, steps: Iterable[object], name: str) -> list[list[float | None]]:
    """The last values of a metric in the runs `START STEP SEED`: one list a seed, with a value for each step."""
    rungs = [f"{start} {step}" for step in steps]
    return [[histories[f"{rung} {seed}"][-1][name] for rung in rungs] for seed in seeds(histories, start)]


def power(x: Sequence[float], y: Measurements) -> float | None:
    """The log-log slope of y on x; None where a y is unavailable or not positive."""
    found = [value for value in y if value is not None and value > 0]
    return log_slope(x, found) if len(found) == len(x) else None


def powers(x: Sequence[float], seeds: Iterable[Measurements]) -> Sample:
    """One log-log slope on x a seed."""
    return sample([power(x, y)] for y in seeds)


def ends_by(runs: Iterable[History], name: str) -> dict[float, list[History]]:
    """The last rows of the runs, grouped by their value of `name`, in ascending order."""
    ends = [rows[-1:] for rows in runs]
    return {value: [rows for rows in ends if rows[0][name] == value] for value in sorted({e[0][name] for e in ends})}


def reach(values: Sequence[float]) -> str:
    """The least and the largest value, in words."""
    return f"{min(values):.4g} to {max(values):.4g}" if values else "not available"


def median_curve(label: str, runs: Sequence[History], x: str, y: str) -> Series:
    """The median of the runs' last curves `y` over `x`, wherever more than half of them have a value.

    A gap where x leaves out octaves: nothing was measured there.
    """
    points: dict[float, list[float]] = {}
    for rows in runs:
        for at, value in zip(rows[-1][x], rows[-1][y], strict=True):
            points.setdefault(at, []).extend([value] if value else [])
    kept = {at: median(values) for at, values in sorted(points.items()) if 2 * len(values) > len(runs)}
    gaps = {low * 2: None for low, high in pairwise(kept) if high > 2 * low}
    curve: dict[float, float | None] = dict(sorted({**kept, **gaps}.items()))
    return Series(label, list(curve), list(curve.values()))


def band(label: str, x: Sequence[float], seeds: Sequence[Measurements]) -> Series:
    """The median over seeds at each x, from the least to the largest; a gap where no seed has a value."""
    found = [[value for value in at if value is not None] for at in zip(*seeds, strict=True)]
    middle, low, high = ([f(values) if values else None for values in found] for f in (median, min, max))
    return Series(label, x, middle, low, high)


def _labels(histories: Histories, start: str) -> list[str]:
    words = start.split()
    return [label for label in histories if label.split()[: len(words)] == words]
