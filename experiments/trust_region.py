"""Does a perturbation sized by a trust region keep what a language model knew, in one place and on a ring?

Question   TRAM takes ASAM's perturbation with a divergence d of the model's predictions in the place of its radius. Is
           it a radius that needs no tuning, and does the model forget less of other domains while it is fine-tuned?
Claim      Sherborne et al. 2024 (ICLR, arXiv 2310.03646), table 4: TRAM has the least perplexity in the domain and
           zero-shot; the best variant takes as d the divergence from the model of the step before (20.9 and 22.5, where
           Adam has 24.8 and 26.5, Fisher SAM 21.7 and 23.2); with inputs with noise, TRAM-x, it has 21.9 and 23.2.
Ours       The same steps with a small model: a window of 12 characters, embeddings, one hidden layer, pre-trained on
           five domains of text that come with Python and fine-tuned on one, the language reference. The decentralized
           twin, which nobody has published: 8 replicas on a ring, each with a local Adam and an eighth of the batch,
           the model of the step before being the replica's own before gossip.
Measured   Perplexity of the mean model on held-out text of the domain, and zero-shot: the mean over the four others; d,
           |e| and |e / w| of the perturbation e; all paired by seed with Adam's.
Controls   Fine-tuning must learn and must forget, or nothing could be kept; with little noise TRAM-x is Adam.
Departures Embeddings begin at N(0, 1), so that the noise is 0.1, 0.3 and 1: d is 0.8 at 1, as at 0.3 with embeddings of
           smaller scale. With fine-tuning text for half a pass instead of five no perturbation gains anything in the
           domain, nor with a transformer that costs as much (pre-trained to a perplexity of 10.4, not 8.5). Radii are
           not tuned here: those of SAM, ASAM and Fisher SAM are the paper's.
Expect     Pilot, 10 seeds: Adam takes the perplexity from 8.48 to 7.42 in the domain and from 5.97 to 9.30 zero-shot.
           Less Adam's, in the domain and zero-shot: TRAM-x at noise 1 -0.090, -0.54; ASAM -0.074, -0.45; Fisher SAM
           -0.091, -0.52; d's mean as a constant radius -0.092, -0.56 (TRAM-x was to be better, and the pilot left it
           open: now it is to be as good), so that it is the size that matters, which the noise sets (-0.014 at 0.3),
           not that it follows d; three quarters of what is kept is one domain, the names; the start as target -0.039,
           -0.18; the step before nothing, with d 7e-5. But Adam with 0.4 of the learning rate has -0.031 and -2.47:
           what a perturbation keeps, small steps keep several times over. On the ring Adam ends at 7.52 and 7.23, which
           a single model's small steps better in both; TRAM-x keeps 0.31 more there and learns 0.03 less; and d of the
           step before, taken before gossip, is a third of a single model's: it does not see the gossip. Refuted then:
           both of the step before, the start in the domain, small steps, and two of the ring's.
Seeds      Criteria are the bars of earlier trials (in the domain -0.05, zero-shot 0.02) and what the pilot showed, on
           seeds 0 to 9 (pilots/trust_region.json); they are judged on seeds from 800 on. A seed is a start, its
           pre-training, mini-batches and noise; the text and its held-out part are the same for all.
Takes      smoke 3 seconds; standard 6 minutes on 2 cores, 12 where the seeds are doubled; long (a transformer, more
           text) and paper (the same with a larger one, for a GPU) were never timed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from statistics import fmean

from dsgd import histories
from dsgd.data import Text
from dsgd.data.text import DOMAINS
from dsgd.gradients import Gradient
from dsgd.gradients.asam import Asam
from dsgd.gradients.fisher_sam import FisherSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.tram import Tram
from dsgd.histories import Histories, cell, seeds_of
from dsgd.learning_rates import Cosine
from dsgd.metrics import Consensus, Gauges, Perplexity
from dsgd.models import Model, NeuralLm, Transformer
from dsgd.optimizers import AdamW
from dsgd.plots import Series, curves
from dsgd.pretraining import Pretrained
from dsgd.run import Run
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = (
    "Does a trust-region radius keep a language model's other domains while it is fine-tuned, with no radius to tune?"
)

DOMAIN = "prose"
OTHERS = tuple(domain for domain in DOMAINS if domain != DOMAIN)
ONE, RING = "one", "ring"
ADAM, SLOW, X, PREVIOUS, INITIAL = "Adam", "Adam-slow", "TRAM-x-1", "TRAM-previous", "TRAM-initial"
SIGMAS = {"TRAM-x-0.1": 0.1, "TRAM-x-0.3": 0.3, X: 1.0}
METHODS: dict[str, Gradient] = {
    ADAM: Plain(),
    SLOW: Plain(),
    "SAM": Sam(0.05),
    "ASAM": Asam(0.5),
    "ASAM-constant": Asam(0.8, "all"),
    "FSAM": FisherSam(0.1, 0.1),
    **{name: Tram("input", sigma=sigma) for name, sigma in SIGMAS.items()},
    PREVIOUS: Tram("previous"),
    INITIAL: Tram("initial"),
    "TRAM-Fisher": Tram("fisher"),
}
ON_THE_RING = (ADAM, "ASAM", X, PREVIOUS)
BEFORE, LAST = 0, -1  # rows of a history in which perplexities are
PPL, ZERO_SHOT, LENGTH = "perplexity_mean_model", "zero_shot_perplexity_mean_model", "gauge_own_length"
DEFINITIONS = {
    "perplexity": "exp of the mean cross-entropy of the next character, on held-out text; zero-shot its mean over the "
    "four domains that were not fine-tuned on",
    "d": "the mean over the mini-batch of KL(target || current) of the predictions, in nats",
    "TRAM-x-SIGMA": "target: the model at embeddings with noise N(0, SIGMA^2)",
    "TRAM-previous, TRAM-initial": "target: the replica's own model of the step before, before gossip; the start",
    "TRAM-Fisher": "Fisher SAM with the squared gradient at embeddings with noise N(0, 0.1^2)",
    "ASAM-constant": "TRAM's perturbation with the constant 0.8, about the mean of TRAM-x-1's d, in the place of d",
    "Adam-slow": "Adam at a fraction of the learning rate",
    "e": "the perturbation; w the parameters, e / w one by the other",
    "one": "a single model, on the whole mini-batch",
    "ring": "replicas on a ring, each with a share of it; the mean of their weights is judged",
}


LIMITS = (
    "No gain over ASAM or Fisher SAM is claimed, whose radii are not tuned here; nor anything of other models. Adam's "
    "learning rate is not tuned either: at 0.4 of it Adam itself is better in both.",
    "What is called zero-shot was in the pre-training: it is kept or forgotten, not met for the first time.",
    "Seeds vary the start, its pre-training, mini-batches and noise, not the text: intervals say nothing of others.",
)


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `batch_size` is that of all replicas together, and so it is for the pre-training."""

    seeds: int = 10
    seed: int = 800
    model: Model = field(default_factory=NeuralLm)
    context: int = 12
    pretraining_size: int = 100_000
    train_size: int = 10_000
    test_size: int = 4_000
    pretraining_steps: int = 3000
    steps: int = 800
    batch_size: int = 64
    n: int = 8
    lr: float = 1e-3
    slow: float = 0.4
    departures: tuple[str, ...] = ()

    def text(self, domain: str, train_size: int = 1) -> Text:
        return Text(domain, self.context, train_size, self.test_size)


SMALL = Settings(2, 0, NeuralLm(4, 12), 6, 500, 400, 100, 40, 30, 16, 4)
SCALED = (
    "Characters and five small domains in the place of GPT-2's tokens and M2D2.",
    "A cosine in the place of the paper's polynomial decay of the learning rate, with the same fifth of warm-up.",
)

presets = {
    "smoke": SMALL,
    "standard": Settings(departures=SCALED),
    "long": Settings(
        5,
        model=Transformer(64, 2, 4),
        context=32,
        train_size=30_000,
        pretraining_steps=20_000,
        steps=2000,
        departures=SCALED,
    ),
    "paper": Settings(
        5,
        model=Transformer(256, 6, 8),
        context=128,
        train_size=100_000,
        pretraining_steps=100_000,
        steps=10_000,
        lr=2e-4,
        departures=(*SCALED, "A small transformer, pre-trained on these five domains, where the paper has GPT-2."),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label: where, the method, the seed."""
    places = [(ONE, method) for method in METHODS] + [(RING, method) for method in ON_THE_RING]
    return {
        f"{place} {method} {seed}": _run(settings, place, method, seed)
        for place, method in places
        for seed in seeds_of(settings)
    }


def _run(settings: Settings, place: str, method: str, seed: int) -> Run:
    n = settings.n if place == RING else 1
    lr = settings.lr * (settings.slow if method == SLOW else 1)
    others = tuple(settings.text(domain) for domain in OTHERS)
    everything = settings.text("all", settings.pretraining_size)
    return Run(
        task=Task(settings.text(DOMAIN, settings.train_size)),
        model=settings.model,
        topology=Static(Topology("ring", n)),
        gradient=METHODS[method],
        optimizer=AdamW(0.9, 0.99, weight_decay=0.0),
        learning_rate=Cosine(lr, warmup=settings.steps // 5, floor=0.0),
        batch_size=settings.batch_size // n,
        steps=settings.steps,
        seed=seed,
        pretraining=Pretrained(everything, settings.pretraining_steps, settings.batch_size, settings.lr),
        measure_every=max(1, settings.steps // 16),
        metrics=(Consensus(), Gauges(), Perplexity(others, every=settings.steps)),
    )


@dataclass(frozen=True)
class Ends:
    """What was measured in all runs, one value a seed."""

    settings: Settings
    found: Histories

    def rows(self, place: str, method: str) -> list[histories.History]:
        return [self.found[f"{place} {method} {seed}"] for seed in seeds_of(self.settings)]

    def ends(self, place: str, method: str, name: str, row: int = LAST) -> list[float]:
        return [rows[row][name] for rows in self.rows(place, method)]

    def less(self, place: str, method: str, name: str, base: str = ADAM, of: str = "") -> list[float]:
        """A perplexity less that of another method, of the same place if `of` names no other."""
        return _differences(self.ends(place, method, name), self.ends(of or place, base, name))

    def kept(self, place: str, method: str) -> list[float]:
        """The mean over the other domains of the log of the perplexity, less Adam's."""
        names = [f"perplexity_of_{k}_mean_model" for k in range(len(OTHERS))]
        by_domain = [[log(value) for value in self.ends(place, method, name)] for name in names]
        adams = [[log(value) for value in self.ends(place, ADAM, name)] for name in names]
        return _differences(*([fmean(seed) for seed in zip(*each, strict=True)] for each in (by_domain, adams)))

    def along(self, place: str, method: str, name: str) -> list[list[float]]:
        """The values of a gauge at every measurement, a list a seed."""
        return [[row[name] for row in rows if name in row] for rows in self.rows(place, method)]

    def d(self, place: str, method: str) -> list[float]:
        """The mean of d over the run, one value a seed."""
        return [fmean(values) for values in self.along(place, method, "gauge_d")]


def _differences(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(ones, others, strict=True)]


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    ends = Ends(settings, found)
    claims = [*_perplexities(ends), *_mechanism(ends), *_ring(ends), *_controls(ends)]
    notes = (*settings.departures, f"The texts are those of Python {platform.python_version()}.", *LIMITS)
    return Report(
        claims,
        (_perplexity_table(ends), _domains(ends)),
        tuple(_figures(ends)),
        notes,
        _answer(ends, claims),
        DEFINITIONS,
    )


def _claim(name: str, values: Sequence[float], low: float | None, high: float | None, words: str) -> Claim:
    return histories.one_a_seed(values).claim(name, "claim", low, high, words)


def _perplexities(ends: Ends) -> Iterator[Claim]:
    """Of a single model, less Adam's where nothing else is said."""
    words = "perplexity in the domain less Adam's: -0.05 or less"
    for name, method in (("TRAM-x", X), ("TRAM-previous", PREVIOUS), ("TRAM-initial", INITIAL)):
        yield _claim(f"{name}: in domain", ends.less(ONE, method, PPL), None, -0.05, words)
    words = "zero-shot perplexity less Adam's: 0.02 or less"
    for name, method in (("TRAM-x", X), ("TRAM-initial", INITIAL)):
        yield _claim(f"{name}: zero-shot", ends.less(ONE, method, ZERO_SHOT), None, 0.02, words)
    words = "zero-shot perplexity less Adam's: -0.05 or less, as the paper's best method's"
    yield _claim("TRAM-previous: zero-shot", ends.less(ONE, PREVIOUS, ZERO_SHOT), None, -0.05, words)
    words = "zero-shot perplexity of TRAM-x less ASAM's: 0.05 or less"
    yield _claim("TRAM-x beside ASAM: zero-shot", ends.less(ONE, X, ZERO_SHOT, "ASAM"), None, 0.05, words)
    words = "zero-shot perplexity of TRAM-x less Adam's at the smaller learning rate: 0 or less"
    yield _claim("TRAM-x beside small steps: zero-shot", ends.less(ONE, X, ZERO_SHOT, SLOW), None, 0.0, words)
    words = "perplexity in the domain less that with d's mean as a constant radius: within 0.01"
    constant = ends.less(ONE, X, PPL, "ASAM-constant")
    yield _claim("TRAM-x: as good as a constant radius", constant, -0.01, 0.01, words)
    words = "perplexity in the domain with noise 1 less that with noise 0.3: -0.05 or less"
    yield _claim("TRAM-x: its noise is its radius", ends.less(ONE, X, PPL, "TRAM-x-0.3"), None, -0.05, words)
    words = "mean over the other domains of the log of the perplexity, less Adam's: -0.01 or less"
    yield _claim("TRAM-x: kept, in logarithms", ends.kept(ONE, X), None, -0.01, words)


def _mechanism(ends: Ends) -> Iterator[Claim]:
    lengths = zip(ends.along(ONE, X, LENGTH), ends.along(ONE, X, "gauge_d"), strict=True)
    off = [max(abs(e / d - 1) for e, d in zip(*seed, strict=True)) for seed in lengths]
    words = "TRAM-x: the largest of | |e / w| / d - 1 | on the way: 1e-5 or less"
    yield histories.one_a_seed(off).claim("|e / w| is d", "control", None, 1e-5, words)
    by_sigma = zip(*(ends.d(ONE, method) for method in SIGMAS), strict=True)
    steps = [min(more / less for less, more in pairwise(ds)) for ds in by_sigma]
    words = f"d at noise {', '.join(f'{sigma:g}' for sigma in SIGMAS.values())}: each at least 4 times the one before"
    yield histories.one_a_seed(steps).claim("d grows with the noise", "control", 4.0, None, words)
    largest = [max(values) for values in ends.along(ONE, PREVIOUS, "gauge_d")]
    yield _claim("d of TRAM-previous is nothing", largest, None, 1e-3, "the largest d on the way: 0.001 or less")


def _ring(ends: Ends) -> Iterator[Claim]:
    words = "on the ring, zero-shot perplexity less Adam's on the ring: 0.02 or less"
    yield _claim("ring: TRAM-x: zero-shot", ends.less(RING, X, ZERO_SHOT), None, 0.02, words)
    words = "on the ring, perplexity in the domain less Adam's on the ring: -0.05 or less"
    yield _claim("ring: TRAM-x: in domain", ends.less(RING, X, PPL), None, -0.05, words)
    words = "d of the step before, on the ring, over that of a single model: 3 or more"
    ratios = [a / b for a, b in zip(ends.d(RING, PREVIOUS), ends.d(ONE, PREVIOUS), strict=True)]
    yield _claim("ring: d of TRAM-previous sees the gossip", ratios, 3.0, None, words)
    words = "Adam's zero-shot perplexity on the ring less that of a single model: -0.5 or less"
    yield _claim("ring: forgets less", ends.less(RING, ADAM, ZERO_SHOT, ADAM, ONE), None, -0.5, words)
    words = "the same less that of a single model at the smaller learning rate: -0.05 or less"
    yield _claim("ring: forgets less than small steps", ends.less(RING, ADAM, ZERO_SHOT, SLOW, ONE), None, -0.05, words)


def _controls(ends: Ends) -> Iterator[Claim]:
    def change(name: str) -> list[float]:
        return _differences(ends.ends(ONE, ADAM, name), ends.ends(ONE, ADAM, name, BEFORE))

    learnt, forgot = (histories.one_a_seed(change(name)) for name in (PPL, ZERO_SHOT))
    yield learnt.claim(
        "fine-tuning learns", "control", None, -0.5, "Adam's perplexity in the domain falls by 0.5 or more"
    )
    yield forgot.claim("fine-tuning forgets", "control", 0.5, None, "Adam's zero-shot perplexity rises by 0.5 or more")
    little = histories.one_a_seed(ends.less(ONE, next(iter(SIGMAS)), PPL))
    words = "with noise 0.1, perplexity in the domain less Adam's: within 0.01"
    yield little.claim("little noise: Adam", "control", -0.01, 0.01, words)


def _perplexity_table(ends: Ends) -> Table:
    columns = (
        "where",
        "method",
        "in domain",
        "less Adam's",
        "zero-shot",
        "less Adam's zero-shot",
        "mean d",
        "mean |e|",
    )
    rows: list[tuple[str | float | None, ...]] = [(ONE, "before", *_mean(ends, ONE, ADAM, BEFORE), *[None] * 2)]
    for place, methods in ((ONE, tuple(METHODS)), (RING, ON_THE_RING)):
        for method in methods:
            gauges = [_gauge(ends, place, method, name) for name in ("gauge_d", "gauge_length")]
            rows.append((place, method, *_mean(ends, place, method), *gauges))
    return Table(
        "Perplexities", columns, rows, "Means over seeds and their 95 % intervals, differences paired by seed."
    )


def _mean(ends: Ends, place: str, method: str, row: int = LAST) -> Iterator[str | float | None]:
    """Both perplexities, each with what Adam's in the same place differ by."""
    for name in (PPL, ZERO_SHOT):
        yield fmean(ends.ends(place, method, name, row))
        yield None if method == ADAM else cell(ends.less(place, method, name), 3)


def _gauge(ends: Ends, place: str, method: str, name: str) -> float | None:
    found = [value for seed in ends.along(place, method, name) for value in seed]
    return fmean(found) if found else None


def _domains(ends: Ends) -> Table:
    def cells(place: str, method: str, row: int = LAST) -> list[float]:
        names = [PPL, *(f"perplexity_of_{k}_mean_model" for k in range(len(OTHERS)))]
        return [fmean(ends.ends(place, method, name, row)) for name in names]

    rows: list[tuple[str | float, ...]] = [(ONE, "before", *cells(ONE, ADAM, BEFORE))]
    rows += [(ONE, method, *cells(ONE, method)) for method in METHODS]
    rows += [(RING, method, *cells(RING, method)) for method in ON_THE_RING]
    return Table("Perplexities by domain", ("where", "method", DOMAIN, *OTHERS), rows, "Means over seeds.")


def _figures(ends: Ends) -> Iterator[Figure]:
    caption = "Median and range over seeds."

    def over_steps(place: str, method: str, name: str) -> Series:
        steps = [row["step"] for row in ends.rows(place, method)[0] if name in row]
        label = method if place == ONE else f"{method}, ring"
        return histories.band(label, steps, ends.along(place, method, name))

    shown = [*((ONE, method) for method in (*SIGMAS, INITIAL, PREVIOUS)), (RING, X), (RING, PREVIOUS)]
    for name, what in (("gauge_d", "d"), ("gauge_length", "|e|")):
        series = [over_steps(place, method, name) for place, method in shown]
        yield curves(f"{what} on the way", series, "step", what, caption, logarithmic="y")
    series = [
        Series(
            f"{method}{'' if place == ONE else ', ring'}",
            ends.ends(place, method, PPL),
            ends.ends(place, method, ZERO_SHOT),
        )
        for place, method in ((ONE, ADAM), (ONE, SLOW), (ONE, "ASAM"), (ONE, X), (RING, ADAM), (RING, X))
    ]
    words = "A point a seed; each seed has a start of its own."
    yield curves(
        "What is kept and what is learnt",
        series,
        "perplexity in the domain",
        "zero-shot perplexity",
        words,
        joined=False,
    )


def _answer(ends: Ends, claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers."""
    verdicts = histories.judged(claims)

    def less(method: str, place: str = ONE) -> str:
        both = (cell(ends.less(place, method, name), 3) for name in (PPL, ZERO_SHOT))
        return " in the domain and ".join(both) + " zero-shot"

    before, after = (fmean(ends.ends(ONE, ADAM, ZERO_SHOT, row)) for row in (BEFORE, LAST))
    on_ring = fmean(ends.ends(RING, ADAM, ZERO_SHOT))
    open_ones = histories.not_supported(verdicts)
    return (
        f"Fine-tuning with Adam takes the zero-shot perplexity from {before:.2f} to {after:.2f}. Perplexity less "
        f"Adam's: with TRAM-x at noise 1 {less(X)}; with ASAM at 0.5 {less('ASAM')}; with a smaller learning rate "
        f"alone {less(SLOW)}; with the model of the step before "
        f"{less(PREVIOUS)}, where d is {fmean(ends.d(ONE, PREVIOUS)):.1e} at the mean, so that it is Adam.\n\n"
        f"On the ring Adam's zero-shot perplexity is {on_ring:.2f}; TRAM-x's less Adam's there {less(X, RING)}; "
        f"d of the step before is {fmean(ends.d(RING, PREVIOUS)):.1e} there."
        + (f"\n\nNot supported: {open_ones}." if open_ones else "")
    )
