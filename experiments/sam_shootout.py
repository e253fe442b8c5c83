"""Which sharpness-aware method is best at the same budget of gradients, in one model and in D-SGD?

Question   Every method counts its own gradients differently, most take two a step. Tuned alike and given the same
           number of gradients, is any better than SGD with as many, and are the same ones better on D-SGD's ring?
Claim      Each method's paper has it above SGD, mostly for the same number of steps, which is twice the gradients:
           SAM (Foret et al. 2021), ASAM (Kwon et al. 2021), Fisher SAM (Kim et al. 2022), VaSSO (Li & Giannakis 2023),
           SSAM (Tan et al. 2025) and the others of `dsgd list gradients`. Zhu et al. 2023: D-SGD is such a method.
           Nobody has published them side by side as local steps of D-SGD.
Measured   Test accuracy, calibration, lambda_max, trace and sharpness of the mean model at the end, once of few
           training examples and once of noisy labels; each run has budget / cost steps and a cosine over its own.
           RSGS is left out: it adapts a trained model to a stream without labels. N(0, Xi) of the replicas is asked
           of the ring alone. Diverged runs count as chance. Seconds are no column: a history has none; what a step of
           each method takes is measured in docs/speed.md. What is flat here is so by tuned learning rate, radius and
           number of steps together, not by the radius alone.
Tuning     Learning rate and radius, 15 pairs a method, a setting and a place (methods without a radius: 15 learning
           rates within the same reach), by accuracy on examples held out of a larger training set, on three tuning
           seeds of their own; of equally good pairs the first, with the least learning rate and then the least radius.
           The held-out labels have no noise. Only the tuned pair is then trained on the verdict's seeds; how well it is
           known is not in the intervals.
Rival      Fewer steps: with noisy labels whoever trains less learns less of the noise by heart. So SGD also gets half
           of the budget, tuned for itself: as many steps as SAM takes.
Controls   A random direction of radius 0 is SGD, step for step; SGD with other seeds on the same data is as accurate;
           half of the budget is no gain where labels are clean.
Expect     A pilot of 20 seeds with narrower grids (learning rates to 0.05 for all but SGD, radii not smaller on the
           ring). Few examples, one model: all within a point of SGD (94.5 %), SAM's gain 0.12 [-0.12, 0.40], Fisher SAM
           first by rank and TRAM last; D-SGD 0.3 below SGD; on the ring SAM gains 0.45 and ASAM 0.70. Noisy labels: SGD
           87.1 %, SAM +1.6, ASAM +1.9, VaSSO +1.6, SSAM +2.4, Fisher SAM 0.4 and open; with as many steps as SAM SGD
           gains 0.2; on the ring SAM +2.3, the others as much. The order of methods alone and on the ring correlates
           0.76 and 0.65, both open against 0.5. SAM is flatter but for few examples alone, where SGD took a larger
           learning rate; flatter is better in all four. Verdicts that stay open are to be expected where gains are of
           tenths.
Seeds      Tuning has seeds 40 to 42. Criteria were set on seeds 0 to 19 (pilots/sam_shootout.json, of the narrower
           grids; the control of other seeds was within 1 then) and are judged on seeds from 800 on. Each seed has a
           split of its own; all are of the same 1,797 images, so that a held-out image of one may be a test image of
           another.
Takes      smoke 5 seconds; standard 10 minutes on 2 cores, 14 where the seeds are doubled; long (Fashion-MNIST) was not
           timed; paper is for a GPU, not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import log
from statistics import fmean
from typing import NamedTuple, cast

from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, HeldOut, LabelNoise
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.histories import Histories, Measurements, cell, differences, judged, one_a_seed, seeds_of
from dsgd.learning_rates import Cosine
from dsgd.metrics import Accuracy, Consensus, Curvature, Metric, Sharpness, Uncertainty
from dsgd.models import Mlp, Model, ResNet18
from dsgd.optimizers import Sgd
from dsgd.plots import Series, curves
from dsgd.ranks import linear_correlation, pseudo_values, rank_correlation, ranks
from dsgd.run import Run
from dsgd.statistics import mean_interval
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "At the same budget of gradients, tuned alike: which sharpness-aware method is best, alone and in D-SGD?"
accepts_divergence = True

CHANCE = 0.1
FORWARD = 1 / 3  # of a gradient, which is a pass forward and, twice as dear, one backward
LOOK = 5  # LookSAM's k
DISTANCE = 0.5  # at which the metric `sharpness` looks
CLEAN, NOISY = SETTINGS = ("clean", "noisy")
ALONE, RING = PLACES = ("alone", "ring")
WORDS = {CLEAN: "few examples", NOISY: "noisy labels", ALONE: "one model", RING: "ring"}


class At(NamedTuple):
    """What a method is told of its place: examples of a replica's mini-batch, and of a class on average."""

    batch: int
    each_class: float


@dataclass(frozen=True)
class Method:
    """A gradient by its name and, of a radius, its knobs; `cost` is in gradients a step.

    Without `radii` learning rates alone are tuned. On the ring, whose mini-batches are small and whose gradients are
    long, radii are `on_ring` times as large.
    """

    name: str
    cost: float = 2
    radii: tuple[float, ...] = (0.05, 0.2, 0.6)
    knobs: Callable[[float, At], Mapping[str, object]] = lambda rho, at: {"rho": rho}
    places: tuple[str, ...] = PLACES
    on_ring: float = 0.3

    def gradient(self, rho: float, at: At) -> Gradient:
        """With this radius."""
        return GRADIENTS[self.name](**(self.knobs(rho, at) if self.radii else {}))


PLAIN = (0.003, 0.004, 0.006, 0.008, 0.01, 0.014, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.14, 0.2, 0.3)
TOWARDS_NOISE = (0.3, 1.5, 6.0)  # directions that are not the gradient's have larger radii
FACTORS = (3.0, 30.0, 300.0)
METHODS: dict[str, Method] = {
    "SGD": Method("plain", 1, ()),
    "random": Method("random_direction", 1, TOWARDS_NOISE, on_ring=1),
    "average": Method("average_direction", 1, TOWARDS_NOISE, on_ring=1),
    "N(0,Xi)": Method("weight_diversity", 2, (), places=(RING,)),
    "SAM": Method("sam"),
    "USAM": Method("usam"),
    "unified": Method("unified_sam"),
    "m-SAM": Method("m_sam", knobs=lambda rho, at: {"rho": rho, "m": max(1, at.batch // 4)}),
    "ASAM": Method("asam", 2, (0.3, 1.0, 2.0), on_ring=1),
    "FisherSAM": Method("fisher_sam", knobs=lambda rho, at: {"gamma": rho}),
    "GSAM": Method("gsam", knobs=lambda rho, at: {"rho_max": rho, "rho_min": rho / 2}),
    "LookSAM": Method("look_sam", 1 + 1 / LOOK, knobs=lambda rho, at: {"rho": rho, "k": LOOK}),
    "VaSSO": Method("vasso"),
    "SSAM": Method("ssam"),
    "ImbSAM": Method("imb_sam", 3, knobs=lambda rho, at: {"rho": rho, "eta": at.each_class}),
    "CSAM": Method("csam"),
    "TRAM": Method("tram", 2 + 2 * FORWARD, FACTORS, lambda rho, at: {"d_scale": rho}, on_ring=1),
    "TRAM-x": Method("tram", 2 + 2 * FORWARD, FACTORS, lambda rho, at: {"d_scale": rho, "target": "input"}, on_ring=1),
}
HALF, AGAIN, RADIUS_0 = "SGD-half", "SGD-again", "random-0"
RIVAL = Method("plain", 2, ())
CONTROLS = {AGAIN: METHODS["SGD"], RADIUS_0: METHODS["random"]}  # with SGD's tuned knobs, and the radius 0
LEADING = ("SAM", "ASAM", "FisherSAM", "VaSSO", "SSAM")
OTHER_SEEDS = 400  # from a run's seed to that of SGD's once more

DEFINITIONS = {
    "budget": "gradients of a mini-batch that a run may take; a method's steps are budget / cost, and so is its cosine",
    "cost": "gradients a step; a pass forward alone counts as a third of one",
    "rho": "the radius, of TRAM the factor d_scale of its divergence",
    "SGD-half": "SGD with half of the budget, as many steps as SAM takes, tuned for itself",
    "average, N(0,Xi)": "average-direction SAM with an isotropic Gaussian, and with the replicas' own covariance Xi",
    "LookSAM": f"with k = {LOOK}; GSAM with rho_min = rho / 2; m-SAM with four parts a mini-batch",
    "ImbSAM": "with the classes below the mean number of training examples as its tail",
    "TRAM, TRAM-x": "by the predictions of the step before, and by those of inputs with noise",
    "lambda_max, tr H": "largest eigenvalue and trace of the Hessian of the training loss at the mean model",
    "ascent, average": f"the rise of the training loss {DISTANCE:g} along the gradient, and as far in any direction",
    "rank": "1 is the most accurate of a seed; equal ones share the mean of their ranks",
    "ring": "D-SGD: each replica takes the method's step on its share of the mini-batch and mixes with two neighbours",
}


LIMITS = (
    "Verdicts are of the knobs that were tuned, on few seeds: how well these are known is not in the intervals.",
    "Some methods are nearly one: FisherSAM, VaSSO and SAM; SGD, random and average. What is said of many methods' "
    "order, or of flatness over them, counts them all.",
)


class Knobs(NamedTuple):
    """What is tuned."""

    lr: float
    rho: float = 0.0

    def __str__(self) -> str:
        return f"{self.lr:g} {self.rho:g}"


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `few` and `some` training examples are clean and noisy, `radii` of each method are tried."""

    seeds: int = 10
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(test_size=797, centred=True))
    few: int = 300
    some: int = 500
    held_out: int = 500
    noise: float = 0.4
    model: Model = field(default_factory=lambda: Mlp((64,), "relu", init="he"))
    methods: tuple[str, ...] = tuple(METHODS)
    n: int = 8
    batch_size: int = 64
    budget: int = 600
    lrs: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    plain_lrs: tuple[float, ...] = PLAIN
    radii: int = 3
    weight_decay: float = 5e-4
    examples: int = 256
    tuning_seeds: int = 3
    first_tuning_seed: int = 40
    departures: tuple[str, ...] = ()

    @property
    def tuning(self) -> range:
        return range(self.first_tuning_seed, self.first_tuning_seed + self.tuning_seeds)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Of the verdict's runs."""
        surface = (Curvature(self.examples, probes=16), Sharpness(self.examples, samples=8, rho=DISTANCE))
        return (Accuracy(every=0), Consensus(every=0), Uncertainty(0, (), every=0), *surface)

    def size(self, setting: str) -> int:
        """Training examples."""
        return self.few if setting == CLEAN else self.some

    def ranked(self, place: str) -> list[str]:
        """The methods of a place."""
        return [name for name in self.methods if place in METHODS[name].places]

    def cells(self) -> Iterator[tuple[str, str, str]]:
        """Setting, place and method of all that is tuned."""
        for setting, place in product(SETTINGS, PLACES):
            yield from ((setting, place, name) for name in (*self.ranked(place), HALF))

    def grid(self, name: str, place: str) -> list[Knobs]:
        """The pairs that are tried, in the order in which of equally good ones the first is taken."""
        method = _method(name)
        radii = [rho * (method.on_ring if place == RING else 1) for rho in method.radii[: self.radii]]
        pairs = product(self.lrs, radii) if radii else ((lr, 0.0) for lr in self.plain_lrs)
        return [Knobs(*pair) for pair in pairs]

    def steps(self, name: str) -> int:
        """As many as the budget allows."""
        return int(self.budget / _method(name).cost + 1e-9)


presets = {
    "smoke": Settings(
        seeds=1,
        seed=20,
        data=Digits(test_size=400, centred=True),
        few=64,
        some=64,
        held_out=64,
        model=Mlp((8,), "relu", init="he"),
        methods=("SGD", "N(0,Xi)", *LEADING),
        n=2,
        batch_size=16,
        budget=12,
        lrs=(0.05, 0.1),
        plain_lrs=(0.05, 0.1),
        radii=1,
        examples=32,
        tuning_seeds=1,
    ),
    "standard": Settings(),
    "long": Settings(
        seeds=5,
        data=FashionMnist(),
        few=1000,
        some=4000,
        held_out=2000,
        model=Mlp((128,), "relu", init="he"),
        budget=3000,
        examples=1000,
        departures=("One set of training examples for all seeds, which vary start, mini-batches and noise alone.",),
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        few=45_000,
        some=45_000,
        held_out=5000,
        model=ResNet18(activation="relu"),
        batch_size=128,
        budget=140_000,
        lrs=(0.05, 0.1),
        plain_lrs=(0.01, 0.02, 0.05, 0.1, 0.2, 0.4),
        tuning_seeds=1,
        departures=(
            "The papers' settings differ; this is CIFAR-10 with 400 epochs of SGD, and so 200 of SAM.",
            "GroupNorm in place of BatchNorm, no augmentation; 5,000 of the training images are left to tune on.",
        ),
    ),
}


def _method(name: str) -> Method:
    return {**METHODS, **CONTROLS, HALF: RIVAL}[name]


def runs(settings: Settings) -> dict[str, Run]:
    """The tuning runs: setting, place, method, learning rate and radius, the seed."""
    return {
        f"tuning {setting} {place} {name} {knobs} {seed}": _run(settings, setting, place, name, knobs, seed, True)
        for setting, place, name in settings.cells()
        for knobs, seed in product(settings.grid(name, place), settings.tuning)
    }


def runs_after(settings: Settings, found: Histories) -> dict[str, Run]:
    """The verdict's runs, of the tuned knobs: setting, place, method, the seed."""
    ends, verdict = Ends(settings, found), dict[str, Run]()
    for seed in seeds_of(settings):
        for setting, place, name in settings.cells():
            knobs = ends.tuned(setting, place, name)
            verdict[f"{setting} {place} {name} {seed}"] = _run(settings, setting, place, name, knobs, seed)
        for setting, place, name in product(SETTINGS, PLACES, CONTROLS):
            knobs = Knobs(ends.tuned(setting, place, "SGD").lr)
            verdict[f"{setting} {place} {name} {seed}"] = _run(settings, setting, place, name, knobs, seed)
    return verdict


def _run(settings: Settings, setting: str, place: str, name: str, knobs: Knobs, seed: int, tuning: bool = False) -> Run:
    n = 1 if place == ALONE else settings.n
    method, batch = _method(name), settings.batch_size // n
    return Run(
        task=Task(_data(settings, setting, seed, tuning)),
        model=settings.model,
        topology=Static(Topology("ring", n)),
        gradient=method.gradient(knobs.rho, At(batch, settings.size(setting) / 10)),
        optimizer=Sgd(0.9, weight_decay=settings.weight_decay),
        learning_rate=Cosine(knobs.lr),
        batch_size=batch,
        steps=settings.steps(name),
        seed=seed + OTHER_SEEDS * (name == AGAIN),
        measure_every=settings.steps(name),
        metrics=(Accuracy(every=0),) if tuning else settings.metrics,
    )


def _data(settings: Settings, setting: str, seed: int, tuning: bool) -> DataSource:
    """As many training examples in tuning as in the verdict; a seed's own split of the digits, and its own noise."""
    size = settings.size(setting) + settings.held_out * tuning
    data: DataSource = replace(settings.data, train_size=size)  # type: ignore[type-var]  # all have it
    if isinstance(data, Digits):
        data = replace(data, split=seed)
    data = HeldOut(data, settings.held_out) if tuning else data
    return LabelNoise(data, settings.noise, draw=seed) if setting == NOISY else data


@dataclass(frozen=True)
class Ends:
    """The last rows of all runs, one a seed."""

    settings: Settings
    found: Histories

    def tuned(self, setting: str, place: str, name: str) -> Knobs:
        """The knobs of the best mean accuracy on held-out examples; of equal ones the first of the grid."""

        def validated(knobs: Knobs) -> float:
            return fmean(self._accuracies(f"tuning {setting} {place} {name} {knobs}", self.settings.tuning))

        return max(self.settings.grid(name, place), key=validated)

    def shown(self, setting: str, place: str, name: str) -> list[str | None]:
        """The tuned learning rate and radius, with a star at an end of what was tried."""
        tuned, tried = self.tuned(setting, place, name), self.settings.grid(name, place)
        ends = [(min(values), max(values)) for values in zip(*tried, strict=True)]
        found = [f"{knob:g}{'*' * (knob in end)}" for knob, end in zip(tuned, ends, strict=True)]
        return [found[0], found[1] if _method(name).radii else None]

    def _accuracies(self, runs: str, seeds: Sequence[int], whose: str = "mean_model") -> list[float]:
        """Chance where a run diverged."""
        rows = [self.found[f"{runs} {seed}"][-1] for seed in seeds]
        return [CHANCE if row.get("diverged") else cast(float, row[f"test_accuracy_{whose}"]) for row in rows]

    def points(self, setting: str, place: str, name: str, whose: str = "mean_model") -> list[float]:
        """Test accuracy in percentage points, a value a seed."""
        seeds = seeds_of(self.settings)
        return [100 * value for value in self._accuracies(f"{setting} {place} {name}", seeds, whose)]

    def values(self, setting: str, place: str, name: str, metric: str) -> list[float | None]:
        """A metric, a value a seed; None where the run diverged or there is none."""
        seeds = seeds_of(self.settings)
        return [self.found[f"{setting} {place} {name} {seed}"][-1].get(metric) for seed in seeds]

    def diverged(self, setting: str, place: str, name: str) -> int:
        return sum(value is not None for value in self.values(setting, place, name, "diverged"))

    def gain(self, setting: str, place: str, name: str, base: str = "SGD") -> Measurements:
        """Accuracy less the base's in the same place, in points."""
        return differences(self.points(setting, place, name), self.points(setting, place, base))

    def flatter(self, setting: str, place: str, name: str) -> Measurements:
        """log of lambda_max over SGD's in the same place."""
        pairs = (self.values(setting, place, which, "lambda_max") for which in (name, "SGD"))
        return [log(a / b) if a and b and a > 0 and b > 0 else None for a, b in zip(*pairs, strict=True)]

    def ranks(self, setting: str, place: str, names: Sequence[str]) -> list[list[float]]:
        """Of every seed the ranks of the methods among each other."""
        return [ranks(seed) for seed in zip(*(self.points(setting, place, name) for name in names), strict=True)]

    def same_order(self, setting: str) -> Measurements:
        """The correlation of mean ranks alone and on the ring, as jackknife pseudo-values, one a seed."""
        both = self.settings.ranked(ALONE)
        tables = [self.ranks(setting, place, both) for place in PLACES]

        def correlated(seeds: Sequence[int]) -> float | None:
            mean_ranks = [[fmean(column) for column in zip(*(t[s] for s in seeds), strict=True)] for t in tables]
            return linear_correlation(*mean_ranks)

        return pseudo_values(correlated, self.settings.seeds)

    def flatness_tells(self, setting: str, place: str) -> Measurements:
        """Of every seed the rank correlation of lambda_max and accuracy over the methods that did not diverge."""
        names = self.settings.ranked(place)
        accuracies = zip(*(self.points(setting, place, name) for name in names), strict=True)
        curvatures = zip(*(self.values(setting, place, name, "lambda_max") for name in names), strict=True)
        return [rank_correlation(*seed) for seed in zip(accuracies, curvatures, strict=True)]


def _claim(name: str, values: Measurements, low: float | None, high: float | None, words: str) -> Claim:
    return one_a_seed(values).claim(name, "claim", low, high, words)


def _above(name: str, values: Measurements, words: str) -> Claim:
    return _claim(name, values, 0.0, None, f"accuracy of {words}, in points: above 0")


def _claims(ends: Ends) -> Iterator[Claim]:
    for name in LEADING:
        words = f"{name} less SGD's, one model with noisy labels"
        yield _above(f"noisy: {name} above SGD", ends.gain(NOISY, ALONE, name), words)
    gain = ends.gain(NOISY, ALONE, "SAM", HALF)
    yield _above("noisy: SAM above SGD of as few steps", gain, "SAM less SGD-half's, one model with noisy labels")
    yield _above("clean: SAM above SGD", ends.gain(CLEAN, ALONE, "SAM"), "SAM less SGD's, one model, clean labels")
    for setting in SETTINGS:
        words = f"SAM as local step less D-SGD's, {WORDS[setting]}"
        yield _above(f"{setting}, ring: SAM above D-SGD", ends.gain(setting, RING, "SAM"), words)
        less = differences(ends.points(setting, RING, "SGD"), ends.points(setting, ALONE, "SGD"))
        yield _above(f"{setting}: D-SGD above SGD", less, f"D-SGD less SGD's, {WORDS[setting]}")
        words = f"{WORDS[setting]}: correlation of the methods' mean ranks alone and on the ring: 0.5 or more"
        yield _claim(f"{setting}: the same order on the ring", ends.same_order(setting), 0.5, None, words)
    for setting, place in product(SETTINGS, PLACES):
        at = f"{WORDS[setting]}, {WORDS[place]}"
        words = f"{at}: log of SAM's λ_max over SGD's: below 0"
        yield _claim(f"{setting}, {place}: SAM flatter", ends.flatter(setting, place, "SAM"), None, 0.0, words)
        words = f"{at}: rank correlation of λ_max and accuracy over methods: below 0"
        yield _claim(f"{setting}, {place}: flatter is better", ends.flatness_tells(setting, place), None, 0.0, words)


def _controls(ends: Ends) -> Iterator[Claim]:
    gains = [ends.gain(setting, place, RADIUS_0) for setting, place in product(SETTINGS, PLACES)]
    worst = [max(abs(gain or 0) for gain in seed) for seed in zip(*gains, strict=True)]
    words = "accuracy of a random direction of radius 0 less SGD's, the largest distance, in points: 0.2 at most"
    yield one_a_seed(worst).claim("radius 0 is SGD", "control", None, 0.2, words)
    words = "accuracy of SGD with other seeds less SGD's, one model with clean labels, in points: within 0.5"
    again = ends.gain(CLEAN, ALONE, AGAIN)
    yield one_a_seed(again).claim("SGD with other seeds", "control", -0.5, 0.5, words)
    words = "accuracy of SGD-half less SGD's, one model with clean labels, in points: 0.5 at most"
    yield one_a_seed(ends.gain(CLEAN, ALONE, HALF)).claim("half of the budget", "control", None, 0.5, words)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    ends = Ends(settings, found)
    claims = [*_claims(ends), *_controls(ends)]
    tables = [_table(ends, setting, place) for setting, place in product(SETTINGS, PLACES)]
    answer = _answer(ends, judged(claims))
    return Report(claims, tables, tuple(_figures(ends)), (*LIMITS, *settings.departures), answer, DEFINITIONS)


def _table(ends: Ends, setting: str, place: str) -> Table:
    numbers = {"ece_mean_model": 4, "nll_mean_model": 3, "lambda_max": 2, "hessian_trace": 1}
    numbers |= {"sharpness_ascent": 4, "sharpness_average": 5}
    names = ends.settings.ranked(place)
    places = dict(zip(names, zip(*ends.ranks(setting, place, names), strict=True), strict=True))
    rows: list[tuple[str | float | None, ...]] = []
    for name in [*sorted(names, key=lambda name: fmean(places[name])), HALF]:
        rank = cell(places[name], 1) if name in places else None
        points, whose = (cell(ends.points(setting, place, name, of), 2) for of in ("mean_model", "replicas_mean"))
        measured = (cell(ends.values(setting, place, name, metric), digits) for metric, digits in numbers.items())
        cost, steps = f"{_method(name).cost:.3g}", ends.settings.steps(name)
        own = (points, whose if place == RING else None, rank, ends.diverged(setting, place, name), *measured)
        rows.append((name, cost, steps, *ends.shown(setting, place, name), *own))
    columns = ("method", "cost", "steps", "lr", "rho", "accuracy, %", "replicas', %", "rank", "diverged", "ECE", "NLL")
    caption = (
        "Tuned knobs, with a star at an end of what was tried; means over seeds with 95 % intervals, best mean rank "
        "first; diverged is a number of runs."
    )
    title = f"{WORDS[setting].capitalize()}, {WORDS[place]}"
    return Table(title, (*columns, "λ_max", "tr H", "ascent", "average"), rows, caption)


def _figures(ends: Ends) -> Iterator[Figure]:
    both = ends.settings.ranked(ALONE)
    caption = "A point a method: mean and 95 % intervals over seeds of its rank among the methods that both have."
    series = []
    for setting in SETTINGS:
        alone, ring = (list(zip(*ends.ranks(setting, place, both), strict=True)) for place in PLACES)
        limits = [mean_interval(column) for column in ring]
        lo, hi = [one.lo for one in limits], [one.hi for one in limits]
        series.append(Series(WORDS[setting], [fmean(c) for c in alone], [fmean(c) for c in ring], lo, hi))
    yield curves("Ranks", series, "mean rank, one model", "mean rank, ring", caption, joined=False)
    for setting in SETTINGS:
        series = [_cloud(ends, setting, place) for place in PLACES]
        caption = "A point a method: means over seeds, of λ_max over those that did not diverge."
        title = f"Accuracy over sharpness, {WORDS[setting]}"
        labels = ("λ_max at the mean model", "test accuracy, %")
        yield curves(title, series, *labels, caption, logarithmic="x", joined=False)


def _cloud(ends: Ends, setting: str, place: str) -> Series:
    """Accuracies over lambda_max, a point a method."""
    points = []
    for name in ends.settings.ranked(place):
        curvatures = [value for value in ends.values(setting, place, name, "lambda_max") if value is not None]
        if curvatures:
            points.append((fmean(curvatures), fmean(ends.points(setting, place, name))))
    x, y = zip(*sorted(points), strict=True) if points else ((), ())
    return Series(WORDS[place], x, y)


def _answer(ends: Ends, verdicts: Mapping[str, Judged]) -> str:
    """What was found, in words and measured numbers."""
    paragraphs = [_of_cell(ends, setting, place) for setting, place in product(SETTINGS, PLACES)]
    half = cell(ends.gain(NOISY, ALONE, HALF))
    paragraphs.append(
        f"With noisy labels half of the budget alone is worth {half} points to SGD, and SAM gains "
        f"{cell(ends.gain(NOISY, ALONE, 'SAM', HALF))} on it at as many steps. {_order(verdicts)}"
    )
    return "\n\n".join(paragraphs)


def _of_cell(ends: Ends, setting: str, place: str) -> str:
    """The best and the worst method of a setting and a place, and the gains of the leading ones."""
    names = ends.settings.ranked(place)
    columns = zip(*ends.ranks(setting, place, names), strict=True)
    of_method = dict(zip(names, columns, strict=True))
    mean_rank = {name: fmean(column) for name, column in of_method.items()}
    best, worst = min(names, key=mean_rank.__getitem__), max(names, key=mean_rank.__getitem__)
    said = {name: cell(of_method[name], 1) for name in (best, worst, "SGD")}
    gains = ", ".join(f"{name} {cell(ends.gain(setting, place, name))}" for name in LEADING)
    return (
        f"{WORDS[setting].capitalize()}, {WORDS[place]}: {best} has the best mean rank, {said[best]} of "
        f"{len(names)}, {worst} the worst, {said[worst]}; SGD has {said['SGD']} and "
        f"{cell(ends.points(setting, place, 'SGD'))} % accuracy. Gains on it in points: {gains}."
    )


def _order(verdicts: Mapping[str, Judged]) -> str:
    words = {"supported": "is the same", "refuted": "is another", "inconclusive": "may be another"}
    found = {setting: words[verdicts[f"{setting}: the same order on the ring"].verdict] for setting in SETTINGS}
    orders = " and ".join(f"with {WORDS[setting]} {order}" for setting, order in found.items())
    return f"The order of the methods on the ring {orders}, by the bar of the claims."
