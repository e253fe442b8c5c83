"""Does renormalised SAM stand larger learning rates, and does it leave saddles that trap SAM?

Question   SSAM gives SAM's step the length of the plain gradient. Does that widen the range of stable learning rates,
           and free SAM from saddle points? In D-SGD, too, where it is every replica's local step?
Claim      Tan et al. 2025 (JMLR 26, 24-0065, arXiv 2401.07250): SAM gets stuck at saddle points more than SGD does and
           beats it in a limited range of learning rates only; SSAM leaves the saddles and widens the range.
Source     The authors' code; the paper's constants and tables are not at hand. The thresholds 2 / lambda and
           2 / (lambda (1 + rho lambda)) and when a saddle traps are derived: H g becomes (1 + rho H) H g under USAM,
           and at curvature -kappa the step changes its sign where rho kappa > 1. "-U" is the ascent that is not
           normalised, the paper's.
Measured   The largest stable learning rate on quadratics, and the steps to leave f = x^2 - y^2 from (-3, -0.01) at lr
           0.01, by dsgd's own gradients in float64; test accuracy of a ReLU network over learning rates, diverged
           runs counted as chance; accuracy where 40 % of the training labels are drawn anew. The decentralised twin:
           the same total batch on a ring of 8, mean model and worst replica; a cosine to 0 lets replicas come together.
Controls   |u| = |g|; GD's threshold; no saddle with rho kappa > 1, none inside SAM's ball, is left; at the least
           learning rate all methods train, at the largest SGD breaks down; SGD learns the noise by heart. Equal
           replicas (the complete graph) share the ring's small mini-batches, and not its spread.
Pilot      At lr 1 SSAM-U(0.5) reaches 0.98, SGD 0.87, SAM(0.5) 0.36, USAM(0.5) 0.13; at lr 2 SSAM-U 0.52, SGD 0.12. On
           the ring at lr 1 D-SGD reaches 0.12, SSAM-U 0.98. Under label noise SGD has 0.73, SAM(0.5) 0.90, SSAM-U(1)
           0.92; D-SGD 0.74, and with these local steps 0.14 and 0.16, as equal replicas have: a radius that suits 64
           examples is too large for 8. With SAM(0.1) it has 0.77.
Expect     The wider range supported, on the ring by more; refuted that SSAM leaves what traps SAM, that it does so
           sooner at every rho, that D-SGD resists label noise as SAM does, that a radius carries over to small batches.
Seeds      Criteria were set on seeds 0 to 7 (pilots/stable_sam.json) and are judged on seeds from 800 on. All seeds of
           the sweep share a split, so that they train as one; under label noise each has a split and a draw of its own.
Takes      smoke 3 seconds; standard 5 minutes on 2 cores, 10 where the seeds are doubled; long (Fashion-MNIST) about an
           hour, not timed; paper is for a GPU, not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import log
from statistics import fmean
from typing import cast

from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, LabelNoise
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.histories import Histories, Measurements, band, cell, differences, judged, one_a_seed, seeds_of, select
from dsgd.learning_rates import Cosine
from dsgd.metrics import Accuracy, Consensus
from dsgd.models import Mlp, Model, ResNet18
from dsgd.optimizers import Sgd
from dsgd.plots import Series, curves
from dsgd.quadratics import asked, escape, stable_lr
from dsgd.randomness import generator
from dsgd.run import Run
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Does SSAM widen SAM's range of learning rates and free it from saddle points, in D-SGD too?"
accepts_divergence = True

Rate = tuple[float, float]  # learning rate and momentum
CALM, HOT, FAR, FAST, FASTER = range(5)  # places in the sweep
CHANCE = 0.1
ACCURACY = "test_accuracy_mean_model"
KINDS: dict[str, Callable[[float], Gradient]] = {
    "SGD": lambda rho: Plain(),
    "USAM": Usam,
    "SSAM-U": Ssam,
    "SAM": Sam,
    "SSAM": lambda rho: Ssam(rho, "sam"),
}
SWEPT = {
    "one": ("SGD", "USAM(0.1)", "USAM(0.5)", "SSAM-U(0.1)", "SSAM-U(0.5)", "SAM(0.1)", "SAM(0.5)", "SSAM(0.5)"),
    "ring": ("SGD", "USAM(0.5)", "SSAM-U(0.5)", "SAM(0.5)"),
}
NOISY = {
    "one": ("SGD", "USAM(0.5)", "SSAM-U(0.5)", "SSAM-U(1)", "SAM(0.5)", "SSAM(0.5)"),
    "ring": ("SGD", "SSAM-U(0.5)", "SSAM-U(1)", "SAM(0.1)", "SAM(0.5)"),
    "equal": ("SSAM-U(1)", "SAM(0.5)"),
}
DEFINITIONS = {
    "USAM(rho), SAM(rho)": "the gradient at w + rho g, or at w + rho g / |g|",
    "SSAM-U(rho), SSAM(rho)": "USAM's or SAM's gradient at the length of g, the plain gradient",
    "u": "the vector that the optimizer steps along",
    "lambda, kappa": "a curvature of a quadratic; one of a saddle is -kappa",
    "lr, momentum": "of SGD, the learning rate at the start of a cosine to 0",
    "ring": "D-SGD: each replica steps on its share of the mini-batch and mixes with two neighbours",
    "equal": "C-SGD of such steps: the complete graph, whose replicas stay equal, as in m-SAM",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `sweep` are learning rates with their momentum, the ring's are the first three."""

    seeds: int = 8
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(test_size=797, centred=True))
    model: Model = field(default_factory=lambda: Mlp((128, 128), "relu", init="he"))
    sweep: tuple[Rate, ...] = ((0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (0.3, 0.9), (0.6, 0.9))
    n: int = 8
    batch_size: int = 64
    steps: int = 800
    noise: float = 0.4
    noisy: Rate = (0.1, 0.9)
    noisy_steps: int = 1500
    weight_decay: float = 5e-4
    departures: tuple[str, ...] = ()


presets = {
    "smoke": Settings(
        seeds=1,
        seed=0,
        data=Digits(train_size=64, test_size=200, centred=True),
        model=Mlp((8,), "relu", init="he"),
        n=2,
        batch_size=8,
        steps=5,
        noisy_steps=5,
    ),
    "standard": Settings(),
    "long": Settings(5, data=FashionMnist(), steps=2000, noisy_steps=4000),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(),
        sweep=((0.05, 0.9), (0.2, 0.9), (0.8, 0.9), (0.5, 0.0), (2.0, 0.0)),
        batch_size=128,
        steps=78_000,
        noisy=(0.05, 0.9),
        noisy_steps=78_000,
        departures=(
            "The paper's radii and learning rates are not at hand: 0.05 with momentum is the example in its code.",
            "GroupNorm in place of BatchNorm, no augmentation.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label: where, the method, learning rate and momentum, the seed."""
    found: dict[str, Run] = {}
    for seed in seeds_of(settings):
        for place, method, rate in _swept(settings):
            run = _run(settings, place, method, rate, settings.data, settings.steps, seed)
            found[f"{place} {method} {_words(rate)} {seed}"] = run
        own = replace(settings.data, split=seed) if isinstance(settings.data, Digits) else settings.data
        data, steps = LabelNoise(own, settings.noise, draw=seed), settings.noisy_steps
        for place, method in _each(NOISY):
            run = _run(settings, place, method, settings.noisy, data, steps, seed)
            found[f"noise {place} {method} {seed}"] = run
    return found


def _run(settings: Settings, place: str, method: str, rate: Rate, data: DataSource, steps: int, seed: int) -> Run:
    lr, momentum = rate
    n = 1 if place == "one" else settings.n
    return Run(
        task=Task(data),
        model=settings.model,
        topology=Static(Topology("complete" if place == "equal" else "ring", n)),
        algorithm="adapt_then_combine" if place == "equal" else "consensus",
        gradient=_gradient(method),
        optimizer=Sgd(momentum, weight_decay=settings.weight_decay),
        learning_rate=Cosine(lr),
        batch_size=settings.batch_size // n,
        steps=steps,
        seed=seed,
        metrics=(Accuracy(every=0), Consensus(every=0)),
    )


def _each(methods: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    yield from ((place, method) for place in methods for method in methods[place])


def _swept(settings: Settings) -> Iterator[tuple[str, str, Rate]]:
    for place, method in _each(SWEPT):
        yield from ((place, method, rate) for rate in settings.sweep[: None if place == "one" else FAR + 1])


def _gradient(method: str) -> Gradient:
    name, _, rho = method.rstrip(")").partition("(")
    return KINDS[name](float(rho or 0))


def _words(rate: Rate) -> str:
    return " ".join(f"{number:g}" for number in rate)


# The exact recursions: plain descent on quadratics.

LAMBDA, KAPPA = 4.0, 2.0
CURVATURES = {"one": (LAMBDA,), "ten": tuple(0.1 + (LAMBDA - 0.1) * k / 9 for k in range(10))}
RHOS = (0.1, 0.5, 1.0)
MOST = 3000  # steps; the slowest escape takes 2,305
ESCAPES: dict[str, dict[float, int | None]] = {  # by rho: steps as derived, and as found without dsgd; None: never
    "SGD": {0.0: 233},
    "USAM": {0.05: 259, 0.2: 387, 0.45: 2305, 0.6: None},
    "SSAM-U": {0.05: 262, 0.2: 350, 0.45: 512, 0.6: None},
    "SAM": {0.01: 238, 0.1: None, 0.5: None},
    "SSAM": {0.01: 238, 0.1: None, 0.5: None},
}
SCANNED = {
    "USAM": (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45),
    "SAM": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07),
}


@cache
def _stable(kind: str, rho: float, name: str) -> float:
    return stable_lr(KINDS[kind](rho), CURVATURES[name])


@cache
def _escape(kind: str, rho: float) -> int | None:
    """The steps until |y| > 1 on x^2 - y^2 from (-3, -0.01); None where it is not within 3,000."""
    return escape(KINDS[kind](rho), (2.0, -KAPPA), (-3.0, -0.01), 0.01, MOST)


def _length_error() -> float:
    """The largest | |u| / |g| - 1 | of SSAM on both ascents, at a thousand points."""
    import torch

    h = CURVATURES["ten"]
    w = torch.from_numpy(generator(0, "stable_sam", "points").standard_normal((1000, len(h))))
    g = asked(Plain(), h, w).norm(dim=1)
    ratios = [asked(KINDS[kind](rho), h, w).norm(dim=1) / g for kind in ("SSAM-U", "SSAM") for rho in RHOS]
    return max(float((ratio - 1).abs().max()) for ratio in ratios)


def _theory(kind: str, rho: float) -> float:
    """The largest stable learning rate."""
    return 2 / (LAMBDA * (1 + rho * LAMBDA)) if kind == "USAM" else 2 / LAMBDA


def _threshold_error(kind: str) -> float:
    """The largest relative distance of the stable learning rate from theory, over radii and quadratics."""
    return max(abs(_stable(kind, rho, name) / _theory(kind, rho) - 1) for rho in RHOS for name in CURVATURES)


def _exact(name: str, value: float, low: float | None, high: float | None, words: str, control: bool = False) -> Claim:
    return Claim(name, "control" if control else "claim", (value,), low, high, words)


def _steps_ratio(rho: float) -> float:
    """log of SSAM's steps over USAM's; one that never escapes has taken all."""
    return log((_escape("SSAM-U", rho) or MOST) / (_escape("USAM", rho) or MOST))


def _recursion_claims() -> Iterator[Claim]:
    words = "relative distance of the largest stable lr from 2 / lambda: 0.01 at most"
    yield _exact("stable lr: SSAM", _threshold_error("SSAM-U"), None, 0.01, words)
    yield _exact("stable lr: GD", _threshold_error("SGD"), None, 0.01, words, True)
    words = "relative distance of the largest stable lr from 2 / (lambda (1 + rho lambda)): 0.01 at most"
    yield _exact("stable lr: USAM", _threshold_error("USAM"), None, 0.01, words)
    yield _exact("length of the step", _length_error(), None, 1e-6, "largest | |u| / |g| - 1 |: 1e-6 at most", True)
    cases = [(kind, rho, steps) for kind, by_rho in ESCAPES.items() for rho, steps in by_rho.items()]
    worst = max(abs((_escape(kind, rho) or MOST) - steps) for kind, rho, steps in cases if steps)
    yield _exact("saddle: steps", worst, None, 3, "largest distance from the derived steps: 3 at most")
    traps = [(kind, rho) for kind, rho, steps in cases if steps is None]
    words = "escapes with rho kappa > 1, or normalised from inside the ball: none"
    freed = sum(_escape(*trap) is not None for trap in traps)
    yield _exact("saddle: trapped as derived", freed, None, 0, words, True)
    ratios = {rho: _steps_ratio(rho) for rho in ESCAPES["SSAM-U"]}
    words = "log of SSAM-U's steps over USAM's, the largest over rho: below 0, so that SSAM escapes sooner at every rho"
    yield _exact("saddle: SSAM sooner, every rho", max(ratios.values()), None, -1e-9, words)
    some = max(ratio for rho, ratio in ratios.items() if 0.4 <= rho * KAPPA < 1)
    yield _exact("saddle: SSAM sooner, rho kappa < 1", some, None, -1e-9, "the same over 0.4 <= rho kappa < 1 alone")
    stable = {"USAM": "SSAM-U", "SAM": "SSAM"}
    left = fmean(_escape(stable[kind], rho) is not None for kind, rho in traps if kind in stable)
    words = "share of the saddles that trap USAM or SAM which SSAM with the same ascent leaves: all"
    yield _exact("saddle: SSAM leaves what traps SAM", left, 1, None, words)


# What was trained.


@dataclass(frozen=True)
class Ends:
    """The last rows of all runs, one a seed."""

    settings: Settings
    found: Histories

    def accuracies(self, runs: str, name: str = ACCURACY) -> list[float]:
        """A value a seed of the runs whose label starts so; chance where one diverged."""
        rows = [self.found[f"{runs} {seed}"][-1] for seed in seeds_of(self.settings)]
        return [CHANCE if row.get("diverged") else cast(float, row[name]) for row in rows]

    def diverged(self, runs: str) -> int:
        return sum(bool(rows[-1].get("diverged")) for rows in select(self.found, runs))

    def at(self, place: str, method: str, rate: int) -> list[float]:
        return self.accuracies(f"{place} {method} {_words(self.settings.sweep[rate])}")

    def gain(self, place: str, one: str, other: str, rate: int) -> Measurements:
        return differences(self.at(place, one, rate), self.at(place, other, rate))

    def above(self, place: str, one: str, other: str, rate: int, by: float) -> Claim:
        at = ("ring, " if place == "ring" else "") + self.named(rate)
        words = f"{at}: accuracy of {one} less {other}'s >= {by:g}"
        return _claim(f"{at}: {one} above {other}", self.gain(place, one, other, rate), by, None, words)

    def noisy(self, method: str, place: str = "one") -> list[float]:
        return self.accuracies(f"noise {place} {method}")

    def named(self, rate: int) -> str:
        lr, momentum = self.settings.sweep[rate]
        return f"lr {lr:g}" + (f", momentum {momentum:g}" if momentum else "")


def _claim(
    name: str, values: Measurements, low: float | None, high: float | None, words: str, control: bool = False
) -> Claim:
    return one_a_seed(values).claim(name, "control" if control else "claim", low, high, words)


def _sweep_claims(ends: Ends) -> Iterator[Claim]:
    calm, hot, far = map(ends.named, (CALM, HOT, FAR))
    stable, plain = "SSAM-U(0.5)", "SGD"
    for place, whose in (("one", ""), ("ring", "ring, ")):
        values, words = ends.at(place, stable, HOT), f"{whose}{hot}: accuracy of {stable} >= 0.95"
        yield _claim(f"{whose}{hot}: SSAM-U trains", values, 0.95, None, words)
        values, words = ends.at(place, "USAM(0.5)", HOT), f"{whose}{hot}: accuracy of USAM(0.5) <= 0.5"
        yield _claim(f"{whose}{hot}: USAM breaks down", values, None, 0.5, words)
        gain, words = ends.gain(place, stable, plain, CALM), f"{whose}{calm}: {stable} less {plain} within 0.01"
        yield _claim(f"{whose}{calm}: SSAM-U like SGD", gain, -0.01, 0.01, words)
        yield ends.above(place, stable, plain, FAR, 0.1)
    yield ends.above("one", "SSAM(0.5)", "SAM(0.5)", HOT, 0.2)
    yield ends.above("one", stable, "USAM(0.5)", FAST, 0.3)
    yield ends.above("ring", stable, plain, HOT, 0.3)
    least = [min(seed) for seed in zip(*(ends.at("one", method, CALM) for method in SWEPT["one"]), strict=True)]
    yield _claim(f"{calm}: all train", least, 0.85, None, f"{calm}: least accuracy of all methods >= 0.85", True)
    broken = ends.at("one", plain, FAR)
    yield _claim(f"{far}: SGD breaks down", broken, None, 0.5, f"{far}: accuracy of SGD <= 0.5", True)


def _noise_claims(ends: Ends) -> Iterator[Claim]:
    sgd, d_sgd = ends.noisy("SGD"), ends.noisy("SGD", "ring")
    for place, whose, base in (("one", "noise", sgd), ("ring", "noise, ring", d_sgd)):
        for method in ("SAM(0.5)", "SSAM-U(1)"):
            gain, words = (
                differences(ends.noisy(method, place), base),
                f"{whose}: accuracy of {method} less SGD's >= 0.1",
            )
            yield _claim(f"{whose}: {method}", gain, 0.1, None, words)
    gain = differences(ends.noisy("SAM(0.1)", "ring"), d_sgd)
    words = "noise, ring: accuracy of SAM(0.1) less D-SGD's >= 0"
    yield _claim("noise, ring: SAM(0.1)", gain, 0, None, words)
    gain = differences(ends.noisy("SSAM-U(0.5)"), ends.noisy("USAM(0.5)"))
    words = "noise: accuracy of SSAM-U(0.5) less USAM(0.5)'s within 0.1"
    yield _claim("noise: SSAM-U like USAM", gain, -0.1, 0.1, words)
    for method in ("SAM(0.5)", "SSAM-U(1)"):
        gain = differences(ends.noisy(method, "equal"), sgd)
        words = f"noise: accuracy of {method} as local step of equal replicas less SGD's >= 0.1"
        yield _claim(f"noise, equal replicas: {method}", gain, 0.1, None, words)
    words = "noise: accuracy of D-SGD on the ring less SGD's >= 0.1"
    yield _claim("noise: D-SGD like SAM", differences(d_sgd, sgd), 0.1, None, words)
    learnt = ends.accuracies("noise one SGD", "train_accuracy_mean_model")
    words = "accuracy of SGD on its noisy training labels >= 0.9"
    yield _claim("noise: SGD learns it by heart", learnt, 0.9, None, words, True)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    ends = Ends(settings, found)
    claims = [*_recursion_claims(), *_sweep_claims(ends), *_noise_claims(ends)]
    tables = (_thresholds(), _saddle(), _sweep(ends), _noise(ends))
    answer = _answer(ends, judged(claims))
    return Report(claims, tables, tuple(_figures(ends)), settings.departures, answer, DEFINITIONS)


def _thresholds() -> Table:
    rows: list[tuple[str | float, ...]] = [
        (kind, rho, _theory(kind, rho), *(_stable(kind, rho, name) for name in CURVATURES))
        for kind in KINDS
        if kind != "SAM"  # of a fixed reach: near the minimum it has no threshold of its own
        for rho in (RHOS if kind != "SGD" else (0.0,))
    ]
    caption = f"Curvature {LAMBDA:g}, or ten from 0.1 to {LAMBDA:g}; learning rates are a quarter of a percent apart."
    return Table("Largest stable learning rate", ("method", "rho", "theory", "one", "ten"), rows, caption)


def _saddle() -> Table:
    rows: list[tuple[str | float, ...]] = [
        (kind, rho, rho * KAPPA, steps or "never", _escape(kind, rho) or f"not in {MOST}")
        for kind, by_rho in ESCAPES.items()
        for rho, steps in by_rho.items()
    ]
    columns = ("method", "rho", "rho kappa", "steps, derived", "steps")
    return Table("Leaving the saddle", columns, rows, "Until |y| > 1 on x^2 - y^2 from (-3, -0.01) at lr 0.01.")


def _sweep(ends: Ends) -> Table:
    rows: list[tuple[str | float | None, ...]] = []
    for place, method, rate in _swept(ends.settings):
        runs = f"{place} {method} {_words(rate)}"
        accuracies, worst = ends.accuracies(runs), ends.accuracies(runs, "test_accuracy_replicas_worst")
        failed = sum(accuracy < 0.5 for accuracy in accuracies)
        cells = (cell(accuracies, 3), cell(worst, 3) if place == "ring" else None, failed, ends.diverged(runs))
        rows.append((place, method, *rate, *cells))
    columns = ("model", "method", "lr", "momentum", "test accuracy", "worst replica's", "below 0.5", "diverged")
    caption = "Means over seeds with 95 % intervals; below 0.5 and diverged are numbers of runs; chance is 0.1."
    return Table("Learning rates", columns, rows, caption)


def _noise(ends: Ends) -> Table:
    rows = []
    for place, method in _each(NOISY):
        learnt = ends.accuracies(f"noise {place} {method}", "train_accuracy_mean_model")
        rows.append((place, method, cell(ends.noisy(method, place), 3), cell(learnt, 3)))
    caption = f"{ends.settings.noise:.0%} of the training labels drawn anew; means over seeds with 95 % intervals."
    return Table("Label noise", ("model", "method", "test accuracy", "accuracy on noisy labels"), rows, caption)


def _figures(ends: Ends) -> Iterator[Figure]:
    of = {"USAM": "USAM", "SSAM-U": "USAM", "SAM": "SAM", "SSAM": "SAM"}
    series = [Series(kind, SCANNED[rhos], [_escape(kind, rho) for rho in SCANNED[rhos]]) for kind, rhos in of.items()]
    ends_of_gd = (SCANNED["USAM"][0], SCANNED["USAM"][-1])
    series.append(Series("GD", ends_of_gd, [_escape("SGD", 0.0)] * 2))
    caption = f"Points that lack were not left in {MOST:,} steps; with rho kappa > 1, rho above 0.5 here, none is."
    yield curves("Steps to leave the saddle", series, "rho", "steps until |y| > 1", caption, logarithmic="xy")
    rates = [lr for lr, _ in ends.settings.sweep[: FAR + 1]]
    for place, where in (("one", ""), ("ring", ", D-SGD on the ring")):
        series = [
            band(method, rates, list(zip(*(ends.at(place, method, k) for k in range(FAR + 1)), strict=True)))
            for method in SWEPT[place]
            if "(0.1)" not in method  # more curves than colours otherwise
        ]
        caption = "Median and range over seeds, diverged runs as chance."
        title = f"Accuracy over learning rates{where}"
        yield curves(title, series, "learning rate", "test accuracy", caption, logarithmic="x")


def _answer(ends: Ends, verdicts: Mapping[str, Judged]) -> str:
    """What was found, in words and measured numbers."""

    def over(place: str) -> str:
        return ", ".join(
            f"{method} {' / '.join(f'{fmean(ends.at(place, method, k)):.3f}' for k in range(FAR + 1))}"
            for method in SWEPT[place]
        )

    def noisy(place: str) -> str:
        return ", ".join(f"{method} {fmean(ends.noisy(method, place)):.3f}" for method in NOISY[place])

    left = verdicts["saddle: SSAM leaves what traps SAM"].verdict == "supported"
    stable = [f"{_stable(*of, 'ten'):.2f}" for of in (("SSAM-U", 1.0), ("SGD", 0.0), ("USAM", 1.0))]
    rates = " / ".join(f"{lr:g}" for lr, _ in ends.settings.sweep[: FAR + 1])
    paragraphs = (
        f"On quadratics SSAM is stable up to {stable[0]}, GD up to {stable[1]}, USAM at rho 1 up to {stable[2]}. SSAM "
        f"leaves {'all' if left else 'not all'} saddles that trap SAM: renormalising restores the length of a step, "
        f"not its sign. With rho kappa < 1 it takes {_escape('SSAM-U', 0.45)} steps for USAM's "
        f"{_escape('USAM', 0.45)} at rho 0.45, and {_escape('SSAM-U', 0.05)} for {_escape('USAM', 0.05)} at rho 0.05.",
        f"Test accuracy at lr {rates}: {over('one')}. As local steps on the ring: {over('ring')}.",
        f"With {ends.settings.noise:.0%} of the training labels drawn anew: {noisy('one')}. On the ring: "
        f"{noisy('ring')}; as equal replicas on its mini-batches: {noisy('equal')}.",
    )
    return "\n\n".join(paragraphs)
