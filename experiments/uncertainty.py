"""Do the replicas know when they are wrong?

Question   Is the spread of D-SGD's replicas a free estimate of how uncertain their predictions are?
Claim      Zhu et al. 2023 (ICML, arXiv 2306.02913), first advantage, "free uncertainty evaluation": Ξ, the covariance
           of the replicas, is offered as an estimate of the covariance of the weights' posterior. No rate is given.
Ours       Ξ has rank n − 1 at most; in linear theory its size is set by graph, learning rate and gradient noise, not by
           the inverse Hessian over the number of examples. It is no calibrated posterior; it may order examples still.
Measured   On the test split: scores before and after one fitted temperature, the scale of Ξ that predicts best, and how
           well disagreement ranks errors and shifted inputs above the rest; of the mean model, the average of the
           replicas' probabilities, and of draws around the mean: from N(0, Ξ), and isotropic of the same trace.
           Yardsticks of as many models and gradients: a deep ensemble (no gossip, starts of their own; Lakshminarayanan
           et al. 2017, arXiv 1612.01474), and no gossip from one start.
Controls   The average of equal replicas (adapt_then_combine on the complete graph) must gain nothing; the mean of a
           deep ensemble's weights must be no model; no average may be worse than its members (Jensen); and the
           directions of replicas that never gossiped must find shifted inputs better than isotropic noise, or none
           could matter. At lr 0.1 they do not (-0.023 on the pilot), so the directions of Ξ are judged at 0.5 alone.
Pilot      The scale that predicts best is 1/32 at lr 0.1 and 4 at lr 0.5. Averaging the replicas raises the NLL at lr
           0.1, where the mean model is underconfident, lowers it by 2e-4 at lr 0.5, and after a temperature is worth
           0.4 % of a deep ensemble's gain. Draws from N(0, Ξ) find errors with an AUROC of 0.931, shifted inputs with
           0.56; isotropic ones with 0.941 and 0.65, the mean model's entropy with 0.943 and 0.66.
Expect     Above chance for errors and noise; refuted as a posterior's size and beside whatever else is free.
Seeds      Criteria were set on seeds 0 to 19 (pilots/uncertainty.json) and are judged on seeds from 800 on.
Takes      smoke a second; standard 3 minutes on 2 cores, 5 where the seeds are doubled; long (Fashion-MNIST) half an
           hour, or an hour; paper is for a GPU: its path was tried with a small ResNet on digits, and never timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import log2
from statistics import median
from typing import Any

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist
from dsgd.histories import Histories, seeds_of
from dsgd.learning_rates import Constant, Multistep
from dsgd.metrics import Accuracy, Consensus, Uncertainty
from dsgd.models import Mlp, Model, ResNet18
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Is the spread of D-SGD's replicas a free and faithful estimate of predictive uncertainty?"

Row = Mapping[str, Any]
Rate = Constant | Multistep
YARDSTICKS = ("equal", "apart same", "apart own")
DEFINITIONS = {
    "Xi": "covariance of the replicas' deviations from their mean: the mean of their outer products",
    "NLL": "negative log-likelihood of the test labels, in nats an example; calibrated: after one fitted temperature",
    "s": "the factor on draws from N(0, Xi) at which their average has the least NLL; 1 for a calibrated posterior",
    "AUROC": "the chance that an error, or a shifted input, is in more doubt than another example; 0.5 is chance",
    "doubt": "of a model the entropy of its prediction, of several their disagreement, the members' mutual information",
    "shifted": "the test inputs turned by 90 degrees, and with noise of their own standard deviation; the mean of both",
    "deep ensemble": "as many models trained without gossip, each from a start of its own",
}
LIMITS = (
    "N(0, Xi) is no calibrated posterior, whatever the numbers: Xi has rank n - 1 at most, and graph, learning rate "
    "and gradient noise set its size. What can be found is how its draws order examples, and what one factor mends.",
    "MC dropout is not among the yardsticks: the models have nothing random inside.",
)
ERROR, NOISY, ROTATED = "error_auroc_{}", "ood_auroc_noisy_{}", "ood_auroc_rotated_{}"
METRICS = {"errors": (ERROR,), "noisy": (NOISY,), "rotated": (ROTATED,), "shifted": (NOISY, ROTATED)}
METRICS |= {"NLL": ("nll_{}",), "calibrated NLL": ("nll_calibrated_{}",)}
Whose = tuple[str, str]  # a run of a Case, and of what: a predictor, with the kind of doubt before it for an AUROC
MEAN, REPLICAS, DRAWS, DEEP = ("gossip", "mean_model"), ("gossip", "replicas"), ("gossip", "xi"), ("own", "replicas")
XI, ISOTROPIC = ("gossip", "information_xi"), ("gossip", "information_isotropic")
ENTROPY, DEEP_DOUBT = ("gossip", "entropy_mean_model"), ("own", "information_replicas")
ORDERINGS = (  # each to be >= 0
    ("Xi above isotropic noise", XI, ISOTROPIC, "AUROC of N(0, Xi) - that of N(0, Tr Xi / d I) >= 0"),
    ("Xi above the mean model's entropy", XI, ENTROPY, "AUROC of N(0, Xi) - that of the mean model's own entropy >= 0"),
    ("deep ensemble above Xi", DEEP_DOUBT, XI, "AUROC of a deep ensemble's disagreement - that of N(0, Xi) >= 0"),
)
WORDS = {"supported": "better than", "refuted": "worse than", "inconclusive": "not surely otherwise than"}
GOSSIP = (("consensus", "ring"), ("consensus", "exponential"), ("adapt_then_combine", "ring"))


@dataclass(frozen=True)
class Settings:
    """What a preset fixes. Each seed has its own split of the digits, as it has a start and mini-batches."""

    seeds: int = 20
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(test_size=1285))
    model: Model = field(default_factory=lambda: Mlp((64, 32)))
    gossip: tuple[tuple[str, str], ...] = GOSSIP
    rates: tuple[Rate, ...] = (Constant(0.1), Constant(0.5))
    n: int = 16
    batch_size: int = 8
    steps: int = 1000
    samples: int = 32
    scales: tuple[float, ...] = (1 / 64, *Uncertainty().scales)
    departures: tuple[str, ...] = ()


OFFICIAL = Multistep(lr=0.1, warmup=0, milestones=(0.4, 0.8), decay=0.1)
SMALL = Settings(seeds=2, seed=0, n=4, steps=40, samples=4, scales=(0.25, 1.0, 4.0), gossip=GOSSIP[:1])

presets = {
    "smoke": replace(SMALL, data=Digits(train_size=64, test_size=400), model=Mlp((16,))),
    "standard": Settings(),
    "long": Settings(
        5,
        data=FashionMnist(),
        model=Mlp((200,)),
        batch_size=32,
        steps=2000,
        samples=16,
        departures=("One test split for all seeds.",),
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(),
        gossip=GOSSIP[:2],
        rates=(OFFICIAL,),
        batch_size=64,
        steps=6000,
        samples=16,
        departures=(
            "The paper measures no uncertainty: its training protocol is followed, and the measures are ours.",
            "GroupNorm in place of BatchNorm, and 32 x 32 images, where the official code resizes to 56 x 56.",
            "From scratch, from one start, where the official code draws one a replica; one test split for all seeds.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, which ends with the learning rate and the seed."""
    found: dict[str, Run] = {}
    full = Uncertainty(settings.samples, settings.scales)
    unscaled, without_draws = replace(full, scales=()), replace(full, samples=0)
    for seed in seeds_of(settings):
        for rate in settings.rates:
            end = f"{rate.lr:g} {seed}"
            for order, graph in settings.gossip:
                found[f"gossip {order} {graph} {end}"] = _training(settings, seed, rate, order, graph, full)
            equal = _training(settings, seed, rate, "adapt_then_combine", "complete", unscaled)
            same = replace(equal, local_steps=settings.steps + 1)
            own = replace(same, starts="own", metrics=(*same.metrics[:-1], without_draws))
            found |= {f"equal {end}": equal, f"apart same {end}": same, f"apart own {end}": own}
    return found


def _training(settings: Settings, seed: int, rate: Rate, order: str, graph: str, metric: Uncertainty) -> Run:
    data = settings.data
    return Run(
        task=Task(replace(data, split=seed) if isinstance(data, Digits) else data),
        model=settings.model,
        topology=Static(Topology(graph, settings.n)),
        algorithm=order,
        learning_rate=rate,
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
        metrics=(Consensus(every=0), Accuracy(every=0), metric),
    )


@dataclass(frozen=True)
class Case:
    """The last rows of one D-SGD run and of its yardsticks, of the same learning rate and seed."""

    gossip: Row
    equal: Row
    same: Row
    own: Row


Value = Callable[[Case], float | None]
Cases = list[list[Case]]  # a list a seed


def _value(what: str, whose: Whose, less: Whose | None = None) -> Value:
    """The mean of those metrics that are there, less another's."""

    def mean(case: Case, whose: Whose) -> float | None:
        row: Row = getattr(case, whose[0])
        return histories.mean(row.get(name.format(whose[1])) for name in METRICS[what])

    def value(case: Case) -> float | None:
        one, other = mean(case, whose), mean(case, less) if less else 0.0
        return None if one is None or other is None else one - other

    return value


def _gain_beyond_a_tenth(case: Case) -> float:
    """Of calibrated NLL, against the mean model."""
    mean = case.gossip["nll_calibrated_mean_model"]
    return mean - case.gossip["nll_calibrated_replicas"] - (mean - case.own["nll_calibrated_replicas"]) / 10


def _kept_lead(case: Case) -> float:
    """By how much a deep ensemble's lead with temperatures exceeds half of that without."""
    calibrated = case.gossip["nll_calibrated_xi"] - case.own["nll_calibrated_replicas"]
    return calibrated - (case.gossip["nll_xi"] - case.own["nll_replicas"]) / 2


def _octaves(case: Case) -> float | None:
    """log2 of the best scale; None where the replicas are equal."""
    scale: float | None = case.gossip["scale_xi_scaled"]
    return None if scale is None else log2(scale)


def _claim(
    cases: Cases, name: str, low: float | None, high: float | None, words: str, value: Value, control: bool = False
) -> Claim:
    found = histories.sample([value(case) for case in seed] for seed in cases)
    return found.claim(name, "control" if control else "claim", low, high, words)


def _claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    for rate in settings.rates:
        of_rate, at = _cases(settings, found, rate.lr), f"lr {rate.lr:g}"
        name = f"NLL: replicas below the mean model, {at}"
        words = "NLL of the replicas' average - NLL of the mean model <= 0"
        yield _claim(of_rate, name, None, 0, words, _value("NLL", REPLICAS, MEAN))
        words = "log2 s of N(0, s^2 Xi) is in [-1, 1]: Xi has a posterior's size, to a factor of 2"
        yield _claim(of_rate, f"scale of Xi, {at}", -1, 1, words, _octaves)
        words = "AUROC of the disagreement of draws from N(0, Xi) >= 0.5"
        yield _claim(of_rate, f"rotated: Xi above chance, {at}", 0.5, None, words, _value("rotated", XI))
    cases = _cases(settings, found)
    for what in ("errors", "noisy"):
        yield _claim(cases, f"{what}: Xi above chance", 0.5, None, words, _value(what, XI))
    last = settings.rates[-1].lr
    for what in ("errors", "shifted"):
        for name, one, other, words in ORDERINGS:
            told_apart, at = (_cases(settings, found, last), f", lr {last:g}") if other == ISOTROPIC else (cases, "")
            yield _claim(told_apart, f"{what}: {name}{at}", 0, None, words, _value(what, one, other))
    for how in ("NLL", "calibrated NLL"):
        words = f"{how} of a deep ensemble - {how} of the average over N(0, Xi) <= 0"
        yield _claim(cases, f"{how}: deep ensemble below Xi", None, 0, words, _value(how, DEEP, DRAWS))
    words = "NLL of the replicas' average - NLL of the mean model, after one temperature each, <= 0"
    yield _claim(cases, f"{how}: replicas below the mean model", None, 0, words, _value(how, REPLICAS, MEAN))
    words = "the same gain of the replicas' average, less a tenth of a deep ensemble's, >= 0"
    yield _claim(cases, f"{how}: replicas gain a tenth of a deep ensemble's", 0, None, words, _gain_beyond_a_tenth)
    words = "NLL of N(0, Xi) - NLL of a deep ensemble with one temperature each, less half of that without, >= 0"
    yield _claim(cases, "temperature: a deep ensemble keeps half its lead", 0, None, words, _kept_lead)


def _controls(settings: Settings, found: Histories) -> Iterator[Claim]:
    cases, last = _cases(settings, found), settings.rates[-1].lr
    words = "NLL of the average - NLL of the mean model is 0 where replicas are equal, to 1e-6"
    gain = _value("NLL", ("equal", "replicas"), ("equal", "mean_model"))
    yield _claim(cases, "equal replicas: no gain", -1e-6, 1e-6, words, gain, True)
    words = "NLL of a deep ensemble's mean weights - NLL of its average >= 1"
    apart = _value("NLL", ("own", "mean_model"), DEEP)
    yield _claim(cases, "starts apart: the mean is no model", 1, None, words, apart, True)
    words = "NLL of the average over replicas - mean of their own NLL <= 0 in every run, to rounding"
    yield _claim(cases, "no average is worse than its members", None, 1e-6, words, _worst_average, True)
    words = f"without gossip, lr {last:g}: AUROC of N(0, Xi) for shifted inputs - that of N(0, Tr Xi / d I) >= 0"
    value = _value("shifted", ("same", XI[1]), ("same", ISOTROPIC[1]))
    yield _claim(_cases(settings, found, last), "no gossip: Xi above isotropic noise", 0, None, words, value, True)


def _worst_average(case: Case) -> float:
    """Jensen's inequality: -log is convex."""
    rows = (case.gossip, case.equal, case.same, case.own)
    return max(row["nll_replicas"] - row["test_loss_replicas_mean"] for row in rows)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    claims = [*_claims(settings, found), *_controls(settings, found)]
    answer = _answer(settings, found, histories.judged(claims))
    tables, figures = (_scores(settings, found), _doubts(settings, found)), tuple(_figures(settings, found))
    return Report(claims, tables, figures, (*LIMITS, *settings.departures), answer, DEFINITIONS)


def _cases(settings: Settings, found: Histories, *lrs: float) -> Cases:
    """Those of the learning rates given, or of all."""
    return [
        [
            Case(found[f"gossip {order} {graph} {end}"][-1], *(found[f"{name} {end}"][-1] for name in YARDSTICKS))
            for lr in lrs or [rate.lr for rate in settings.rates]
            for order, graph in settings.gossip
            for end in [f"{lr:g} {seed}"]
        ]
        for seed in seeds_of(settings)
    ]


def _kinds(settings: Settings) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Kinds of run: start of the label, words for it, and the predictors that are shown of it."""
    of_gossip = ("mean_model", "replicas", "xi", "xi_scaled", "isotropic", "isotropic_scaled", "leafwise")
    for order, graph in settings.gossip:
        yield f"gossip {order} {graph}", f"{graph}, {order}", of_gossip
    yield "equal", "equal replicas (C-SGD)", ("mean_model",)
    yield "apart same", "no gossip, one start", ("mean_model", "replicas", "isotropic")
    yield "apart own", "deep ensemble", ("replicas",)


def _table(settings: Settings, found: Histories, metrics: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Medians over seeds of the metrics with the predictor put in, a row a kind of run, learning rate and predictor."""
    return [
        (words, rate.lr, name.replace("_", " "), *histories.medians(rows, *(metric.format(name) for metric in metrics)))
        for start, words, predictors in _kinds(settings)
        for rate in settings.rates
        for rows in [histories.select(found, f"{start} {rate.lr:g}")]
        for name in predictors
    ]


def _scores(settings: Settings, found: Histories) -> Table:
    names = ("accuracy_{}", "nll_{}", "nll_calibrated_{}", "brier_{}", "ece_{}", "ece_calibrated_{}")
    columns = ("runs", "lr", "predictor", "accuracy", "NLL", "calibrated", "Brier", "ECE", "calibrated", "T", "s")
    rows = _table(settings, found, (*names, "temperature_{}", "scale_{}"))
    caption = "Medians over seeds; ECE in 15 bins; T and s: geometric means of the two fitted on either half."
    return Table("Scores on the test split", columns, rows, caption)


def _doubts(settings: Settings, found: Histories) -> Table:
    doubts = {"entropy": "entropy_{}", "disagreement": "information_{}"}
    every = [(what, doubt) for what in ("errors", "rotated", "noisy") for doubt in doubts]
    rows = _table(settings, found, tuple(METRICS[what][0].format(doubts[doubt]) for what, doubt in every))
    rows = [row for row in rows if any(cell is not None for cell in row[3:])]
    caption = "AUROC, medians over seeds; 0.5 is chance, and below it the shifted inputs are in less doubt."
    columns = ("runs", "lr", "predictor", *(f"{what}: {doubt}" for what, doubt in every))
    return Table("What doubt finds", columns, rows, caption)


def _figures(settings: Settings, found: Histories) -> Iterator[Figure]:
    def points(rate: Rate, x: str, y: str) -> Series:
        rows = [case.gossip for seed in _cases(settings, found, rate.lr) for case in seed]
        kept = [row for row in rows if row[x] is not None]
        return Series(f"lr {rate.lr:g}", [row[x] for row in kept], [row[y] for row in kept])

    yield curves(
        "The size of Xi against that which predicts best",
        [points(rate, "trace_xi", "scale_xi_scaled") for rate in settings.rates],
        "Tr Xi",
        "best scale s of N(0, s^2 Xi)",
        "One point a run. Were Xi a posterior covariance, s would be 1 at every learning rate and on every graph.",
        logarithmic="xy",
        joined=False,
    )
    yield curves(
        "What the directions of Xi find",
        [points(rate, "error_auroc_information_isotropic", "error_auroc_information_xi") for rate in settings.rates],
        "AUROC for errors: isotropic noise of the same trace",
        "AUROC for errors: draws from N(0, Xi)",
        "One point a run. Where directions help, points lie above the diagonal.",
        joined=False,
    )


def _answer(settings: Settings, found: Histories, judged: Mapping[str, Judged]) -> str:
    """What was found, in words and measured numbers."""
    cases = [case for seed in _cases(settings, found) for case in seed]

    def mean(value: Value) -> str:
        found = histories.mean(map(value, cases))
        return "unmeasured" if found is None else f"{found:.4f}"

    def scores(how: str) -> str:
        whose = (MEAN, REPLICAS, DRAWS, DEEP, ("same", "replicas"))
        mean_model, replicas, draws, deep, same = (mean(_value(how, one)) for one in whose)
        return f"{mean_model}, {replicas} and {draws}; of a deep ensemble {deep}, of replicas without gossip {same}"

    def finds(what: str) -> str:
        xi, isotropic, entropy, deep = (mean(_value(what, whose)) for whose in (XI, ISOTROPIC, ENTROPY, DEEP_DOUBT))
        return (
            f"an AUROC of {xi}, that of isotropic draws of the same trace with {isotropic}, the mean model's own "
            f"entropy with {entropy}, a deep ensemble with {deep}"
        )

    scales = [f"{_best_scale(_cases(settings, found, rate.lr))} at lr {rate.lr:g}" for rate in settings.rates]
    last = f"lr {settings.rates[-1].lr:g}"
    order = WORDS[judged[f"errors: {ORDERINGS[0][0]}, {last}"].verdict]
    paragraphs = (
        "Xi is no calibrated posterior covariance: its rank is n - 1 at most, and its size follows from graph, "
        f"learning rate and noise. Draws from it predict best when scaled by {' and by '.join(scales)} (medians, "
        f"{settings.scales[0]:g} to {settings.scales[-1]:g} were tried), where a posterior's would be by 1.",
        f"The NLL of the mean model, of the replicas' average and of draws from N(0, Xi) are {scores('NLL')}. After "
        f"one temperature each they are {scores('calibrated NLL')}.",
        f"The disagreement of draws from N(0, Xi) finds errors with {finds('errors')}. So draws in Xi's "
        f"directions order errors {order} draws in all, at {last}. It finds shifted inputs with {finds('shifted')}.",
    )
    return "\n\n".join(paragraphs)


def _best_scale(cases: Cases) -> str:
    found = [octaves for seed in cases for case in seed if (octaves := _octaves(case)) is not None]
    return f"{2 ** median(found):.3g}" if found else "an unmeasured factor"
