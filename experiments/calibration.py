"""Does SAM calibrate, does its calibrated form do so better, and does D-SGD, which is like it?

Question   SAM is said to calibrate by itself, CSAM beyond it. Is that the sharpness, or the weight that CSAM puts on
           the loss? And is D-SGD, average-direction SAM in the limit, better calibrated for the same reason?
Claim      Tan et al. 2025 (arXiv 2505.23866, ICLR 2026): SAM implicitly maximises the entropy of predictions and lowers
           the ECE; CSAM, which weighs -log p by (1 + p)^-gamma where p > 1/2, lowers it further. Zhu et al. 2023 (arXiv
           2306.02913): D-SGD is average-direction SAM, and should share what SAM does.
Source     Summaries of the ICLR version; its epochs, learning rates and bins are not at hand. ECE in 15 equal bins.
Measured   Digits with Gaussian noise on their pixels, a ReLU network with batch normalisation judged by its running
           statistics: accuracy, ECE, NLL, Brier, and the fitted temperature, of one model and of the mean model of a
           ring of 8 on the same total batch, with mixed and with recalibrated statistics. Each seed has its own split
           and noise. 797 test examples bias an ECE upwards by about a point: methods are compared, never quoted alone.
Controls   SGD with CSAM's weight and rho 0, which is no SAM; C-SGD with each replica's own batch statistics (the
           complete graph), which shares the ring's small batches and not its spread; SGD must be overconfident and mend
           by a temperature; how the mean model gets its statistics must not matter.
Pilot      ECE in points and T: SGD 5.8 and 1.41, its loss weighed 4.0 and 1.14, SAM(0.5) 4.6 and 1.27, SAM(1) 3.2 and
           1.09, CSAM(0.5) 3.2 and 1.06. D-SGD has 3.9, C-SGD on its mini-batches 3.6. As local steps on mini-batches
           of 8 these radii are too large: SAM(1) leaves 77 % accuracy and 30 points, CSAM(0.5) 19; SAM(0.1) has 2.5.
Expect     The bars met; D-SGD calibrated by its small batches, for C-SGD on them is as well; on the ring the radii of
           one model refuted. Whether CSAM has a better ECE than its weight alone may stay open; its NLL is better.
Seeds      Criteria are the bars of a reproduction with current-batch statistics; the others were set on seeds 0 to 3
           (pilots/calibration.json). They are judged on seeds from 800 on.
Takes      smoke 3 seconds; standard 5 minutes on 2 cores, 10 where the seeds are doubled; long (Fashion-MNIST) about an
           hour, not timed; paper is for a GPU, not timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import cast

from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, InputNoise
from dsgd.gradients import Gradient
from dsgd.gradients.csam import Csam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.histories import Histories, Measurements, cell, differences, judged, one_a_seed, seeds_of
from dsgd.learning_rates import Cosine
from dsgd.metrics import Accuracy, Consensus, Uncertainty
from dsgd.models import Mlp, Model, ResNet18
from dsgd.optimizers import Sgd
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Do SAM, CSAM and D-SGD calibrate, and is it by sharpness or by a weight on the loss?"

SGD, WEIGHT, SAM, CSAM = "SGD", "weight", "SAM", "CSAM"
SMALL, LARGE, CSAM_SMALL, CSAM_LARGE = "SAM-small", "SAM-large", "CSAM-small", "CSAM-large"
ONE, RING, COMPLETE, RECALIBRATED = "one", "ring", "complete", "recalibrated"
TRAINED = {
    ONE: (SGD, WEIGHT, SAM, LARGE, CSAM, CSAM_LARGE),
    RING: (SGD, SMALL, LARGE, CSAM_SMALL, CSAM),
    COMPLETE: (SGD,),
    RECALIBRATED: (SGD,),
}
DEFINITIONS = {
    "ECE": "expected calibration error: the mean of |accuracy - confidence| over 15 bins of the confidence",
    "NLL": "negative log-likelihood of the test labels, in nats an example",
    "T": "the temperature of least NLL, fitted on one half of the test examples and judged on the other; above 1 where "
    "a model is overconfident; calibrated: after it",
    "weight": "SGD on the loss of CSAM: -log p weighed by (1 + p)^-gamma where p, of the true label, is above 1/2",
    "ring": "D-SGD; its mean model has the mean of the replicas' running statistics, recalibrated: new ones",
    "complete": "C-SGD with the ring's mini-batches: each of its replicas normalises by its own",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes: three radii of SAM, the small one for the ring's mini-batches, and CSAM's exponent gamma."""

    seeds: int = 8
    seed: int = 800
    data: DataSource = field(default_factory=lambda: InputNoise(Digits(train_size=800, test_size=797), 0.3))
    model: Model = field(default_factory=lambda: Mlp((256, 128), "relu", "batch"))
    small_rho: float = 0.1
    rho: float = 0.5
    large_rho: float = 1.0
    gamma: float = 2.0
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    n: int = 8
    batch_size: int = 64
    steps: int = 750
    departures: tuple[str, ...] = ()

    def gradient(self, method: str) -> Gradient:
        if method == SGD:
            return Plain()
        name, rho = method.partition("-")[0], self.radius(method)
        return Sam(rho) if name == SAM else Csam(rho, self.gamma)

    def radius(self, method: str) -> float:
        """Of no reach where it is the weight alone."""
        of = {"small": self.small_rho, "large": self.large_rho}
        return 0.0 if method == WEIGHT else of.get(method.partition("-")[2], self.rho)

    def named(self, method: str) -> str:
        """The method with its radius."""
        named = f"{method.partition('-')[0]}({self.radius(method):g})"
        return {SGD: SGD, WEIGHT: "SGD, weighed"}.get(method, named)


presets = {
    "smoke": Settings(
        seeds=1,
        seed=0,
        data=InputNoise(Digits(train_size=128, test_size=400), 0.3),
        model=Mlp((16,), "relu", "batch"),
        n=4,
        batch_size=16,
        steps=40,
    ),
    "standard": Settings(),
    "long": Settings(
        5,
        data=FashionMnist(train_size=10_000),
        steps=9400,
        departures=("No noise on the pixels, and one test split for all seeds.",),
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(norm="batch"),
        small_rho=0.01,
        rho=0.05,
        large_rho=0.2,
        gamma=1.0,
        lr=0.1,
        batch_size=128,
        steps=78_000,
        departures=(
            "The paper's learning rate, batch, epochs and weight decay are not at hand; its CIFAR-10 radius is 0.05.",
            "No augmentation.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label: where, the method, the seed."""
    return {
        f"{place} {method} {seed}": _run(settings, place, method, seed)
        for seed in seeds_of(settings)
        for place, method in _trained()
    }


def _run(settings: Settings, place: str, method: str, seed: int) -> Run:
    n = 1 if place == ONE else settings.n
    return Run(
        task=Task(_data(settings.data, seed)),
        model=settings.model,
        topology=Static(Topology("complete" if place == COMPLETE else "ring", n)),
        algorithm="adapt_then_combine" if place == COMPLETE else "consensus",
        gradient=settings.gradient(method),
        optimizer=Sgd(settings.momentum, weight_decay=settings.weight_decay),
        learning_rate=Cosine(settings.lr),
        batch_size=settings.batch_size // n,
        steps=settings.steps,
        seed=seed,
        metrics=(Accuracy(every=0), Consensus(every=0), Uncertainty(samples=0, scales=(), every=0)),
        running_statistics="recalibrate" if place == RECALIBRATED else "mix",
    )


def _data(data: DataSource, seed: int) -> DataSource:
    """A seed's own split of the digits, with noise of its own."""
    if isinstance(data, InputNoise) and isinstance(data.source, Digits):
        return replace(data, source=replace(data.source, split=seed), draw=seed)
    return data


def _trained() -> Iterator[tuple[str, str]]:
    yield from ((place, method) for place, methods in TRAINED.items() for method in methods)


@dataclass(frozen=True)
class Ends:
    """The last rows of all runs, one a seed; of accuracies and calibration errors, percentage points."""

    settings: Settings
    found: Histories

    def values(self, name: str, place: str, method: str, whose: str = "mean_model") -> list[float]:
        """A value a seed."""
        rows = (self.found[f"{place} {method} {seed}"][-1] for seed in seeds_of(self.settings))
        unit = 100 if name.startswith(("accuracy", "ece")) else 1
        return [unit * cast("float", row[f"{name}_{whose}"]) for row in rows]

    def named(self, place: str, method: str) -> str:
        name = self.settings.named(method)
        return {ONE: name, RING: f"{name} on the ring"}.get(place, f"{name}, {place}")

    def claim(
        self,
        name: str,
        what: str,
        one: tuple[str, str],
        other: tuple[str, str],
        low: float | None = None,
        high: float | None = None,
        control: bool = False,
    ) -> Claim:
        """That a paired difference lies between the bounds."""
        shown_as = {"ece": "ECE, in points,", "accuracy": "accuracy, in points,", "nll": "NLL"}
        what_words = shown_as.get(what, f"{shown_as['nll']} after one temperature each")
        bounds = f"within {high:g}" if low is not None and high is not None else _bound(low, high)
        words = f"{what_words} of {self.named(*one)} less {self.named(*other)}'s: {bounds}"
        return _claim(name, differences(self.values(what, *one), self.values(what, *other)), low, high, words, control)


def _bound(low: float | None, high: float | None) -> str:
    return f"at least {low:g}" if high is None else f"at most {high:g}"


def _claim(
    name: str, values: Measurements, low: float | None, high: float | None, words: str, control: bool = False
) -> Claim:
    return one_a_seed(values).claim(name, "control" if control else "claim", low, high, words)


def _claims(ends: Ends) -> Iterator[Claim]:
    sgd, weight, sam, large, csam = ((ONE, method) for method in (SGD, WEIGHT, SAM, LARGE, CSAM))
    yield ends.claim("SAM: ECE", "ece", large, sgd, high=-1)
    yield ends.claim("SAM: accuracy", "accuracy", large, sgd, low=0)
    yield ends.claim("SAM: NLL beyond a temperature", "nll_calibrated", large, sgd, high=0)
    yield ends.claim("CSAM beyond SAM: ECE", "ece", csam, sam, high=-0.8)
    yield ends.claim("CSAM beyond SAM: accuracy", "accuracy", csam, sam, low=-0.7)
    yield ends.claim("CSAM: NLL", "nll", csam, sgd, high=0)
    yield ends.claim("weight alone: ECE", "ece", weight, sgd, high=-0.8)
    yield ends.claim("CSAM beyond the weight: ECE", "ece", csam, weight, high=0)
    yield ends.claim("CSAM beyond the weight: NLL", "nll", csam, weight, high=0)
    d_sgd, equal = (RING, SGD), (COMPLETE, SGD)
    yield ends.claim("D-SGD: ECE", "ece", d_sgd, sgd, high=-1)
    yield ends.claim("D-SGD beyond its small batches: ECE", "ece", d_sgd, equal, high=-1)
    yield ends.claim("ring, SAM: ECE", "ece", (RING, LARGE), d_sgd, high=-1)
    yield ends.claim("ring, CSAM: NLL", "nll", (RING, CSAM), d_sgd, high=0)
    yield ends.claim("ring, small radius, SAM: ECE", "ece", (RING, SMALL), d_sgd, high=0)
    yield ends.claim("ring, small radius, CSAM: NLL", "nll", (RING, CSAM_SMALL), d_sgd, high=0)


def _controls(ends: Ends) -> Iterator[Claim]:
    temperatures = ends.values("temperature", ONE, SGD)
    yield _claim("SGD is overconfident", temperatures, 1.1, None, "T of SGD: at least 1.1", True)
    mended = differences(ends.values("ece_calibrated", ONE, SGD), ends.values("ece", ONE, SGD))
    words = "ECE of SGD, in points, after one temperature less before: at most -1"
    yield _claim("a temperature mends it", mended, None, -1, words, True)
    yield ends.claim("running statistics", "ece", (RECALIBRATED, SGD), (RING, SGD), -1, 1, control=True)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    ends = Ends(settings, found)
    claims = [*_claims(ends), *_controls(ends)]
    answer = _answer(ends, judged(claims))
    return Report(claims, (_scores(ends),), tuple(_figures(ends)), settings.departures, answer, DEFINITIONS)


def _scores(ends: Ends) -> Table:
    names = ("accuracy", "ece", "ece_calibrated", "nll", "nll_calibrated", "brier", "temperature")
    rows: list[tuple[str | float, ...]] = []
    for place, method in _trained():
        values = {name: ends.values(name, place, method) for name in names}
        cells = (cell(values[name]) for name in ("accuracy", "ece"))
        rows.append((place, ends.settings.named(method), *cells, *(fmean(values[name]) for name in names[2:])))
    columns = ("model", "method", "accuracy, %", "ECE", "calibrated", "NLL", "calibrated", "Brier", "T")
    caption = "Of the mean model; means over seeds, accuracy and ECE in points with 95 % intervals, in 15 bins."
    return Table("Scores on the test split", columns, rows, caption)


def _figures(ends: Ends) -> Iterator[Figure]:
    caption = "One point a seed. Right is more accurate, below better calibrated."
    places = {"Accuracy and calibration": (ONE,), "Accuracy and calibration, D-SGD": (RING, COMPLETE)}
    for title, shown in places.items():
        series = [
            Series(ends.named(place, method), ends.values("accuracy", place, method), ends.values("ece", place, method))
            for place, method in _trained()
            if place in shown
        ]
        yield curves(title, series, "test accuracy, %", "ECE, points", caption, joined=False)


def _answer(ends: Ends, verdicts: Mapping[str, Judged]) -> str:
    """What was found, in words and measured numbers."""

    def of(name: str, digits: int = 2) -> str:
        return cell(verdicts[name].claim.values, digits)

    large, small, csam = (ends.settings.named(method) for method in (LARGE, SAM, CSAM))
    alone = verdicts["CSAM beyond the weight: ECE"].verdict
    whose = {
        "supported": "is not the work of that weight alone",
        "refuted": "is mostly the work of that weight",
        "inconclusive": "may be the work of that weight",
    }
    shares = verdicts["D-SGD beyond its small batches: ECE"].verdict == "supported"
    paragraphs = (
        f"{large} changes SGD's ECE by {of('SAM: ECE')} points and its accuracy by {of('SAM: accuracy')}; {csam} "
        f"changes {small}'s ECE by {of('CSAM beyond SAM: ECE')}. SGD with CSAM's weight and no SAM changes SGD's by "
        f"{of('weight alone: ECE')}, and CSAM that by {of('CSAM beyond the weight: ECE')}: what CSAM does to it "
        f"{whose[alone]}. In NLL the SAM in it changes {of('CSAM beyond the weight: NLL', 3)}.",
        f"D-SGD changes SGD's ECE by {of('D-SGD: ECE')} points, and by {of('D-SGD beyond its small batches: ECE')} "
        f"that of C-SGD on the same mini-batches: it {'does' if shares else 'does not'} calibrate as SAM does. As "
        f"its local step, {large} changes its ECE by {of('ring, SAM: ECE')}, {ends.settings.named(SMALL)} by "
        f"{of('ring, small radius, SAM: ECE')}.",
    )
    return "\n\n".join(paragraphs)
