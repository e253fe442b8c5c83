"""Do the replicas know when they are wrong?

Question   Is the spread of D-SGD's replicas a free estimate of how uncertain their predictions are?
Claim      Zhu et al. 2023 (ICML, arXiv 2306.02913), first advantage, "free uncertainty evaluation": Ξ, the covariance
           of the replicas, is offered as an estimate of the covariance of the weights' posterior. No rate is given.
Ours       Ξ has rank n − 1 at most, and in linear theory its size is set by graph and learning rate, not by the inverse
           Hessian over the number of examples. So it cannot be calibrated as a posterior; its directions may still
           order examples by doubt. Both are measured: scores before and after one fitted temperature, the scale of Ξ
           that predicts best, and how well disagreement ranks errors and shifted inputs above the rest.
Measured   On the test split, of the mean model, the average of the replicas' probabilities, and averages over draws
           around the mean: from N(0, Ξ), isotropic of the same trace, isotropic in each leaf. Yardsticks of as many
           models and gradients: a deep ensemble (no gossip, starts of their own; Lakshminarayanan et al. 2017, arXiv
           1612.01474), and no gossip from one start. Disagreement is the members' mutual information.
Controls   Equal replicas (adapt_then_combine on the complete graph) must disagree about nothing; the mean of a deep
           ensemble's weights must be no model; no average may be worse than its members (Jensen); and the directions of
           replicas that never gossiped must be better than isotropic noise, or none could be told to matter.
PILOT
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import log2
from statistics import fmean, median
from typing import Any

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist
from dsgd.histories import Histories
from dsgd.learning_rates import Constant, Multistep
from dsgd.metrics import Accuracy, Consensus, Uncertainty
from dsgd.models import Mlp, Model, ResNet18
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.study import Claim, Figure, Judged, Report, Table, judge
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Is the spread of D-SGD's replicas a free and faithful estimate of predictive uncertainty?"

Row = Mapping[str, Any]
YARDSTICKS = ("equal", "apart same", "apart own")
DEFINITIONS = {
    "Xi": "covariance of the replicas' deviations from their mean: the mean of their outer products",
    "NLL": "negative log-likelihood of the test labels, in nats an example; calibrated: after one fitted temperature",
    "s": "the factor on draws from N(0, Xi) at which their average has the least NLL; 1 for a calibrated posterior",
    "AUROC": "the chance that an error, or a shifted input, is in more doubt than another example; 0.5 is chance",
    "disagreement": "the doubt of several models: the mutual information of the label and the member that predicts it",
    "entropy": "the doubt of one model: the entropy of its prediction",
    "shifted": "the test inputs turned by 90 degrees, and with noise of their own standard deviation; the mean of both",
    "deep ensemble": "as many models trained without gossip, each from a start of its own",
}
LIMITS = (
    "N(0, Xi) is no calibrated posterior, whatever the numbers: Xi has rank n - 1 at most, and graph and learning rate "
    "set its size. What can be found is how its draws order examples, and what a scale or a temperature mends.",
    "MC dropout is not among the yardsticks: the models have nothing random inside.",
)
ERROR, NOISY, ROTATED = "error_auroc_{}", "ood_auroc_noisy_{}", "ood_auroc_rotated_{}"
AUROCS = {"errors": (ERROR,), "noisy": (NOISY,), "rotated": (ROTATED,), "shifted": (NOISY, ROTATED)}
NLLS = {"NLL": "nll_{}", "calibrated NLL": "nll_calibrated_{}"}
Whose = tuple[str, str]  # a run of a Case, and of what: a predictor, with the kind of doubt before it for an AUROC
MEAN, REPLICAS, DRAWS, DEEP = ("gossip", "mean_model"), ("gossip", "replicas"), ("gossip", "xi"), ("own", "replicas")
XI, ISOTROPIC = ("gossip", "information_xi"), ("gossip", "information_isotropic")
ENTROPY, DEEP_DOUBT = ("gossip", "entropy_mean_model"), ("own", "information_replicas")
ORDERINGS = (  # each to be >= 0
    ("Xi above isotropic noise", XI, ISOTROPIC, "AUROC of N(0, Xi) - that of N(0, Tr Xi / d I) >= 0"),
    ("Xi above the mean model's entropy", XI, ENTROPY, "AUROC of N(0, Xi) - that of the mean model's own entropy >= 0"),
    ("deep ensemble above Xi", DEEP_DOUBT, XI, "AUROC of a deep ensemble's disagreement - that of N(0, Xi) >= 0"),
)
DIRECTIONS = {
    "supported": "order errors better than none",
    "refuted": "order errors worse than none",
    "inconclusive": "make no sure difference to the order of errors",
}
GOSSIP = (("consensus", "ring"), ("consensus", "exponential"), ("adapt_then_combine", "ring"))


@dataclass(frozen=True)
class Settings:
    """What a preset fixes. Each seed has its own split of the digits, as it has a start and mini-batches."""

    seeds: int = 20
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(test_size=1285))
    model: Model = field(default_factory=lambda: Mlp((64, 32)))
    gossip: tuple[tuple[str, str], ...] = GOSSIP
    rates: tuple[Constant | Multistep, ...] = (Constant(0.1), Constant(0.5))
    n: int = 16
    batch_size: int = 8
    steps: int = 1000
    samples: int = 32
    scales: tuple[float, ...] = Uncertainty().scales
    departures: tuple[str, ...] = ()


ONE_SPLIT = "One test split for all seeds: what is found is found of its examples."
OFFICIAL = Multistep(lr=0.1, warmup=0, milestones=(0.4, 0.8), decay=0.1)
SMALL = Settings(seeds=2, n=4, steps=40, samples=4, scales=(0.25, 1.0, 4.0), gossip=GOSSIP[:1])

presets = {
    "smoke": replace(SMALL, data=Digits(train_size=64, test_size=400), model=Mlp((16,))),
    "standard": Settings(),
    "long": Settings(
        5, data=FashionMnist(), model=Mlp((200,)), batch_size=32, steps=2000, samples=16, departures=(ONE_SPLIT,)
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
            "From scratch, all replicas from one start, where the official code draws a start a replica.",
            ONE_SPLIT,
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, which ends with the learning rate and the seed."""
    return dict(_runs(settings))


def _runs(settings: Settings) -> Iterator[tuple[str, Run]]:
    full = Uncertainty(settings.samples, settings.scales)
    unscaled, without_draws = replace(full, scales=()), replace(full, samples=0)
    for seed in _seeds(settings):
        for rate in settings.rates:
            end = f"{rate.lr:g} {seed}"
            for order, graph in settings.gossip:
                yield f"gossip {order} {graph} {end}", _training(settings, seed, rate, order, graph, full)
            equal = _training(settings, seed, rate, "adapt_then_combine", "complete", unscaled)
            yield f"equal {end}", equal
            apart = replace(equal, local_steps=settings.steps + 1)
            yield f"apart same {end}", apart
            yield f"apart own {end}", replace(apart, starts="own", metrics=(*apart.metrics[:-1], without_draws))


def _training(
    settings: Settings, seed: int, rate: Constant | Multistep, order: str, graph: str, metric: Uncertainty
) -> Run:
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


def _seeds(settings: Settings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


@dataclass(frozen=True)
class Case:
    """The last rows of one D-SGD run and of its yardsticks, of the same learning rate and seed."""

    lr: float
    gossip: Row
    equal: Row
    same: Row
    own: Row


Value = Callable[[Case], float | None]
Cases = list[list[Case]]  # a list a seed


def _auroc(what: str, whose: Whose, less: Whose | None = None) -> Value:
    """The mean of those AUROCs that are there, less another's."""

    def mean(case: Case, whose: Whose) -> float | None:
        found = [getattr(case, whose[0]).get(name.format(whose[1])) for name in AUROCS[what]]
        there = [value for value in found if value is not None]
        return fmean(there) if there else None

    def value(case: Case) -> float | None:
        one, other = mean(case, whose), mean(case, less) if less else 0.0
        return None if one is None or other is None else one - other

    return value


def _nll(how: str, whose: Whose) -> Callable[[Case], float]:
    return lambda case: getattr(case, whose[0])[NLLS[how].format(whose[1])]


def _excess(how: str, one: Whose, other: Whose) -> Callable[[Case], float]:
    """The one's NLL less the other's."""
    return lambda case: _nll(how, one)(case) - _nll(how, other)(case)


def _nearer(case: Case) -> float:
    """The change of the distance between two NLL that a temperature each makes."""
    raw, calibrated = (abs(_excess(how, DRAWS, MEAN)(case)) for how in NLLS)
    return calibrated - raw


def _kept_lead(case: Case) -> float:
    """By how much a deep ensemble's lead with temperatures exceeds half of that without."""
    raw, calibrated = (_excess(how, DRAWS, DEEP)(case) for how in NLLS)
    return calibrated - raw / 2


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
        name, words = (
            f"NLL: replicas below the mean model, {at}",
            "NLL of the replicas' average - that of the mean <= 0",
        )
        yield _claim(of_rate, name, None, 0, words, _excess("NLL", REPLICAS, MEAN))
        words = "log2 s of N(0, s^2 Xi) is in [-1, 1]: Xi has a posterior's size, to a factor of 2"
        yield _claim(of_rate, f"scale of Xi, {at}", -1, 1, words, _octaves)
        words = "AUROC of the disagreement of draws from N(0, Xi) >= 0.5"
        yield _claim(of_rate, f"rotated: Xi above chance, {at}", 0.5, None, words, _auroc("rotated", XI))
    cases = _cases(settings, found)
    for what in ("errors", "noisy"):
        yield _claim(cases, f"{what}: Xi above chance", 0.5, None, words, _auroc(what, XI))
    for what in ("errors", "shifted"):
        for name, one, other, words in ORDERINGS:
            yield _claim(cases, f"{what}: {name}", 0, None, words, _auroc(what, one, other))
    for how in NLLS:
        words = f"{how} of a deep ensemble - {how} of the average over N(0, Xi) <= 0"
        yield _claim(cases, f"{how}: deep ensemble below Xi", None, 0, words, _excess(how, DEEP, DRAWS))
    words = "NLL of the replicas' average - NLL of the mean model, after one temperature each, <= 0"
    yield _claim(cases, f"{how}: replicas below the mean model", None, 0, words, _excess(how, REPLICAS, MEAN))
    words = "|NLL of N(0, Xi) - NLL of the mean model| with one temperature each, less that without, <= 0"
    yield _claim(cases, "temperature: Xi nears the mean model", None, 0, words, _nearer)
    words = "NLL of N(0, Xi) - NLL of a deep ensemble with one temperature each, less half of that without, >= 0"
    yield _claim(cases, "temperature: a deep ensemble keeps half its lead", 0, None, words, _kept_lead)


def _controls(settings: Settings, found: Histories) -> Iterator[Claim]:
    cases, last = _cases(settings, found), settings.rates[-1].lr
    words = "every AUROC of the disagreement of replicas that are equal is 0.5"
    yield _claim(cases, "equal replicas: no doubt", None, 1e-9, words, _most_doubt, True)
    words = "|NLL of the average - NLL of the mean model| <= 1e-6 where replicas are equal"
    gain = _excess("NLL", ("equal", "replicas"), ("equal", "mean_model"))
    yield _claim(cases, "equal replicas: no gain", None, 1e-6, words, lambda case: abs(gain(case)), True)
    words = "NLL of a deep ensemble's mean weights - NLL of its average >= 1"
    apart = _excess("NLL", ("own", "mean_model"), DEEP)
    yield _claim(cases, "starts apart: the mean is no model", 1, None, words, apart, True)
    words = "NLL of the average over replicas - mean of their own NLL <= 0 in every run, to rounding"
    yield _claim(cases, "no average is worse than its members", None, 1e-6, words, _worst_average, True)
    words = "without gossip from one start, AUROC of N(0, Xi) - that of N(0, Tr Xi / d I) >= 0"
    for what in ("errors", "shifted"):
        ordering = _auroc(what, ("same", XI[1]), ("same", ISOTROPIC[1]))
        name = f"no gossip, {what}: Xi above isotropic noise, lr {last:g}"
        yield _claim(_cases(settings, found, last), name, 0, None, words, ordering, True)


def _most_doubt(case: Case) -> float | None:
    """How far any AUROC of the equal replicas' disagreement is from chance."""
    found = [value for name, value in case.equal.items() if "auroc" in name and "information" in name]
    return max((abs(value - 0.5) for value in found if value is not None), default=None)


def _worst_average(case: Case) -> float:
    """Jensen's inequality: -log is convex."""
    rows = (case.gossip, case.equal, case.same, case.own)
    return max(row["nll_replicas"] - row["test_loss_replicas_mean"] for row in rows)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    claims = [*_claims(settings, found), *_controls(settings, found)]
    answer = _answer(settings, found, {one.claim.name: one for one in judge(claims)})
    tables, figures = (_scores(settings, found), _doubts(settings, found)), tuple(_figures(settings, found))
    return Report(claims, tables, figures, (*LIMITS, *settings.departures), answer, DEFINITIONS)


def _cases(settings: Settings, found: Histories, *lrs: float) -> Cases:
    """Those of the learning rates given, or of all."""
    return [
        [
            Case(lr, found[f"gossip {order} {graph} {end}"][-1], *(found[f"{name} {end}"][-1] for name in YARDSTICKS))
            for lr in lrs or [rate.lr for rate in settings.rates]
            for order, graph in settings.gossip
            for end in [f"{lr:g} {seed}"]
        ]
        for seed in _seeds(settings)
    ]


def _kinds(settings: Settings) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Kinds of run: start of the label, words for it, and the predictors that are shown of it."""
    of_gossip = ("mean_model", "replicas", "xi", "xi_scaled", "isotropic", "isotropic_scaled", "leafwise")
    for order, graph in settings.gossip:
        yield f"gossip {order} {graph}", f"{graph}, {order}", of_gossip
    yield "equal", "equal replicas (C-SGD)", ("mean_model",)
    yield "apart same", "no gossip, one start", ("mean_model", "replicas", "isotropic")
    yield "apart own", "deep ensemble", ("replicas",)


def _table(settings: Settings, found: Histories, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Means over seeds of the metrics `names` with the predictor put in, a row a kind, learning rate and predictor."""

    def mean(rows: list[histories.History], name: str) -> float | None:
        values = [value for value in (run[-1].get(name) for run in rows) if value is not None]
        return fmean(values) if values else None

    return [
        (words, rate.lr, predictor.replace("_", " "), *(mean(rows, name.format(predictor)) for name in names))
        for start, words, predictors in _kinds(settings)
        for rate in settings.rates
        for rows in [histories.select(found, f"{start} {rate.lr:g}")]
        for predictor in predictors
    ]


def _scores(settings: Settings, found: Histories) -> Table:
    names = ("accuracy_{}", "nll_{}", "nll_calibrated_{}", "brier_{}", "ece_{}", "ece_calibrated_{}")
    columns = ("runs", "lr", "predictor", "accuracy", "NLL", "calibrated", "Brier", "ECE", "calibrated", "T", "s")
    rows = _table(settings, found, (*names, "temperature_{}", "scale_{}"))
    caption = "Means over seeds; ECE in 15 bins; T and s: geometric means of the two fitted on either half."
    return Table("Scores on the test split", columns, rows, caption)


def _doubts(settings: Settings, found: Histories) -> Table:
    doubts = {"entropy": "entropy_{}", "disagreement": "information_{}"}
    names = tuple(AUROCS[what][0].format(doubt) for what in ("errors", "rotated", "noisy") for doubt in doubts.values())
    of = tuple(f"{what}: {doubt}" for what in ("errors", "rotated", "noisy") for doubt in doubts)
    rows = [row for row in _table(settings, found, names) if any(cell is not None for cell in row[3:])]
    caption = "AUROC, means over seeds; 0.5 is chance, and below it the shifted inputs are in less doubt."
    return Table("What doubt finds", ("runs", "lr", "predictor", *of), rows, caption)


def _figures(settings: Settings, found: Histories) -> Iterator[Figure]:
    def points(rate: Constant | Multistep, x: str, y: str) -> Series:
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
        values = [one for one in map(value, cases) if one is not None]
        return f"{fmean(values):.4f}" if values else "unmeasured"

    def scores(how: str) -> str:
        mean_model, replicas, draws, deep = (mean(_nll(how, whose)) for whose in (MEAN, REPLICAS, DRAWS, DEEP))
        return f"{mean_model}, {replicas} and {draws}, and a deep ensemble's {deep}"

    def finds(what: str) -> str:
        xi, isotropic, entropy, deep = (mean(_auroc(what, whose)) for whose in (XI, ISOTROPIC, ENTROPY, DEEP_DOUBT))
        return (
            f"an AUROC of {xi}, that of isotropic draws of the same trace with {isotropic}, the mean model's own "
            f"entropy with {entropy}, a deep ensemble with {deep}"
        )

    scales = [
        _best_scale(case for case in cases if case.lr == rate.lr) + f" at lr {rate.lr:g}" for rate in settings.rates
    ]
    directions = judged[f"errors: {ORDERINGS[0][0]}"].verdict
    paragraphs = (
        "Xi is no calibrated posterior covariance: its rank is n - 1 at most, and its size follows from graph and "
        f"learning rate. Draws from it predict best when scaled by {' and by '.join(scales)} (medians; of the scales "
        f"from {settings.scales[0]:g} to {settings.scales[-1]:g}), where a posterior's would be by 1.",
        f"The NLL of the mean model, of the replicas' average and of draws from N(0, Xi) are {scores('NLL')}; after "
        f"one temperature each {scores('calibrated NLL')}.",
        f"The disagreement of draws from N(0, Xi) finds errors with {finds('errors')}. So the directions of Xi "
        f"{DIRECTIONS[directions]}. It finds shifted inputs with {finds('shifted')}.",
    )
    return "\n\n".join(paragraphs)


def _best_scale(cases: Iterable[Case]) -> str:
    """The median."""
    found = [octaves for octaves in map(_octaves, cases) if octaves is not None]
    return f"{2 ** median(found):.3g}" if found else "an unmeasured factor"
