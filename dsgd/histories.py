"""What a study asks of its runs' histories: which runs, the values of a metric, one value a seed, slopes and curves.

And of its claims: their verdicts by name, those that are not supported, and a mean with its interval in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any, Literal, Protocol

from dsgd.plots import Series
from dsgd.statistics import Claim, Judged, judge, log_slope, mean_interval, shown

History = Sequence[Mapping[str, Any]]
Histories = Mapping[str, History]
Measurements = Sequence[float | None]


class Seeded(Protocol):
    """A study's settings, which say how many seeds there are and which is the first."""

    @property
    def seeds(self) -> int: ...
    @property
    def seed(self) -> int: ...


def seeds_of(settings: Seeded, times: int = 1) -> range:
    """The seeds that the settings ask for, or so many times as many."""
    return range(settings.seed, settings.seed + times * settings.seeds)


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

    def cell(self, digits: int = 2, missing: str = "not available") -> str:
        """The mean over seeds and its interval in print."""
        return cell(self.values, digits, missing)


def sample(seeds: Iterable[Measurements], of_seed: Callable[[Sequence[float]], float] = fmean) -> Sample:
    """Each seed's measurements reduced to one value; a seed that has none, or only unavailable ones, gives no value."""
    groups = [list(measurements) for measurements in seeds]
    found = [[value for value in group if value is not None] for group in groups]
    taken, available = (sum(map(len, lists)) for lists in (groups, found))
    return Sample(tuple(of_seed(group) for group in found if group), taken - available, taken)


def one_a_seed(values: Measurements) -> Sample:
    """The sample of values that are one a seed already, None where it was unavailable."""
    return sample([value] for value in values)


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


def ends(histories: Histories, start: str, name: str) -> list[float | None]:
    """The last values of a metric in the runs `START SEED`, one a seed in the order of the seeds."""
    return [histories[f"{start} {seed}"][-1][name] for seed in seeds(histories, start)]


def ladders(histories: Histories, start: str, steps: Iterable[object], name: str) -> list[list[float | None]]:
    """The last values of a metric in the runs `START STEP SEED`: one list a seed, with a value for each step."""
    rungs = [f"{start} {step}" for step in steps]
    return [[histories[f"{rung} {seed}"][-1][name] for rung in rungs] for seed in seeds(histories, start)]


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None where none is."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def ratios(ones: Measurements, others: Measurements) -> list[float | None]:
    """Quotients of values paired by seed; None where one is unavailable or the divisor is 0."""
    pairs = zip(ones, others, strict=True)
    return [None if one is None or not other else one / other for one, other in pairs]


def differences(ones: Measurements, others: Measurements) -> list[float | None]:
    """Differences of values paired by seed; None where one is unavailable."""
    pairs = zip(ones, others, strict=True)
    return [None if one is None or other is None else one - other for one, other in pairs]


def percent(values: Measurements) -> list[float | None]:
    """Shares in percent, and their differences in percentage points."""
    return [None if value is None else 100 * value for value in values]


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


def cell(values: Measurements, digits: int = 2, missing: str = "not available") -> str:
    """The mean of one value a seed and its 95 % interval in print: "0.42 [0.20, 0.63]"."""
    found = [value for value in values if value is not None]
    return shown(mean_interval(found), digits) if found else missing


def judged(claims: Sequence[Claim]) -> dict[str, Judged]:
    """The verdicts on all claims of a study, by the claims' names."""
    return {one.claim.name: one for one in judge(claims)}


def not_supported(verdicts: Mapping[str, Judged]) -> str:
    """The claims that are not supported, with what they are: "flatter (refuted), tuned (inconclusive)"; or nothing."""
    return ", ".join(f"{name} ({one.verdict})" for name, one in verdicts.items() if one.verdict != "supported")


def _labels(histories: Histories, start: str) -> list[str]:
    words = start.split()
    return [label for label in histories if label.split()[: len(words)] == words]
