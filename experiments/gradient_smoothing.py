"""Does the spread of the replicas smooth the gradient?

Question   Is the gradient less Lipschitz for the loss averaged over the replicas' N(0, Ξ) than for the loss itself?
Claim      Zhu et al. 2023 (ICML, arXiv 2306.02913) count smoothing among D-SGD's advantages. Their bound, which we know
           at second hand: the averaged gradient is min(√2 α/σ_min, β)-Lipschitz, σ_min² the least eigenvalue of Ξ. But
           the rank of Ξ is n − 1 at most: σ_min is 0, the minimum is β, and the global bound says nothing.
Derived    Along a unit vector u in the span of the deviations the averaged gradient changes by α √(2/π) √(uᵀΞ⁺u) at
           most. Off the span nothing is bounded, and a ratio of 1 was expected.
Measured   The largest change of the gradient per distance on lines through the mean model, one standard deviation of
           the replicas to both sides, on real D-SGD snapshots early and late in training; deviations also scaled by s.
Controls   A quadratic is not smoothed. Isotropic noise of Ξ's trace is too thin to change a smooth network's gradient,
           and smooths a ReLU network along the span no more than off it.
Expect     The pilot: early in training the ratio along the span is 0.97 for smooth networks and 0.85 for ReLU, late it
           is 1.12 and 1.13: refuted. Around a trained mean the loss is more curved where the replicas are than at the
           mean, by more than averaging cancels; smoothing sets in only with the deviations blown up. Off the span the
           ratio is not 1: much as along it, and 0.5 for ReLU, whose kinks are blurred in all directions. The bound
           holds, at 0.30 of it or less, but is 1.7 to 16 times β, so that it says nothing either.
Depends    Two trained tanh networks had ratios lower by 0.04 and 0.2 on lines twice as long, which reach where the loss
           is more curved, and the same on all 1,432 examples, where two ReLU networks had 0.7 off the span.
Seeds      The bounds 1 and 5 % are the claims' own. Seeds 0 to 9, at the first look (pilots/gradient_smoothing.json),
           decided that early and late, and s below and above 1, are judged apart: they go opposite ways.
Takes      smoke 6 seconds; standard 3 minutes on 2 cores, 6 where a verdict is open; long an hour; paper is for a GPU:
           its path was tried on random images with a small ResNet, and never timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean, median

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, NoData
from dsgd.histories import Histories, History, Sample, one_a_seed, seeds_of
from dsgd.learning_rates import Constant, LearningRate
from dsgd.metrics import Accuracy, Consensus, Smoothing
from dsgd.models import Mlp, Model, Quadratic, ResNet18
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Is the gradient less Lipschitz for the loss averaged over the spread of D-SGD's replicas?"

KINDS = ("smooth", "ReLU")
PARTS = ("smooth early", "smooth late", "ReLU early", "ReLU late")
SPREADS = ("near", "far")
FACTORS = ("smoothing_surroundings_span", "smoothing_cancelling_span")  # of a ratio
ISOTROPIC = "isotropic_smoothing"
SD = "standard deviation of the replicas along a line"
DEFINITIONS = {
    "n, w, Xi": "the number of replicas, their mean, and the covariance of their deviations from it",
    "L, L_Xi": "the training loss, and its average over N(0, Xi): L_Xi(w) is the mean of L(w + e)",
    "alpha, beta": "Lipschitz constants of L and of grad L, as the largest |grad L| and the largest change of it that "
    "were seen: estimates from below",
    "ratio": "largest change per distance of grad L_Xi on a line through w, over that of grad L on the same line",
    "surroundings": "the same of grad L on the line shifted by e, root mean square over e, over grad L's on the line",
    "cancelling": "ratio / surroundings: what averaging leaves of these changes, 1 if they all point the same way",
    "the span": "of the replicas' deviations, n - 1 dimensions; a line in it points to a draw of N(0, Xi)",
    "s": "scale on all deviations; s = 1 is the ensemble as the run left it",
    "the bound": "alpha sqrt(2/pi) sqrt(u' Xi^+ u) along a unit vector u in the span, Xi^+ the pseudo-inverse",
}


@dataclass(frozen=True)
class Training:
    """How fast and on how many examples a replica learns, and so how far apart the replicas are."""

    learning_rate: LearningRate
    batch_size: int


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `early` and `late` are numbers of steps, `scales` ascend from below 1 over 1 to above."""

    seeds: int = 10
    seed: int = 800
    data: DataSource = field(default_factory=Digits)
    smooth: tuple[Model, ...] = (Mlp((32,), "tanh"), Mlp((32,), "gelu"))
    rough: tuple[Model, ...] = (Mlp((32,), "relu"),)
    graphs: tuple[str, ...] = ("ring", "exponential")
    n: int = 16
    near: Training = Training(Constant(0.1), 8)
    far: Training = Training(Constant(0.3), 2)
    early: int = 50
    late: int = 400
    dtype: str = "float64"
    examples: int = 256
    directions: int = 4
    pairs: int = 16
    scales: tuple[float, ...] = (0.25, 1.0, 2.0, 4.0)
    departures: tuple[str, ...] = ()


presets = {
    "smoke": Settings(
        seeds=2,
        seed=0,
        smooth=(Mlp((16,), "tanh"),),
        rough=(Mlp((16,), "relu"),),
        graphs=("ring",),
        n=4,
        early=10,
        late=30,
        examples=16,
        directions=1,
        pairs=8,
        scales=(0.25, 1.0, 4.0),
    ),
    "standard": Settings(),
    "long": Settings(
        seeds=5,
        data=FashionMnist(),
        smooth=(Mlp((64, 32), "tanh"), Mlp((64, 32), "gelu")),
        rough=(Mlp((64, 32), "relu"),),
        late=2000,
        examples=512,
        directions=6,
        pairs=24,
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        smooth=(ResNet18(activation="gelu"),),
        rough=(ResNet18(activation="relu"),),
        graphs=("ring",),
        near=Training(Constant(0.1), 64),
        far=Training(Constant(0.4), 64),
        early=500,
        late=6000,
        dtype="float32",
        departures=(
            "The paper bounds the gradient's Lipschitz constant and never measures it: there is no protocol to depart "
            "from. Network, data, batch size and learning rate are those of its training runs.",
            "GroupNorm in place of BatchNorm, whose statistics make each replica's loss a different function.",
            "The learning rate is constant, so that the early snapshots are of the same training as the late ones.",
            "32 x 32 images, where the official code resizes to 56 x 56.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, KIND STAGE TRAINING ACTIVATION GRAPH SEED."""
    parts = ((part, seed) for part in (_networks, _quadratic) for seed in seeds_of(settings))
    return {label: run for part, seed in parts for label, run in part(settings, seed)}


def _networks(settings: Settings, seed: int) -> Iterator[tuple[str, Run]]:
    """Early snapshots are the ends of short runs, whose steps are the first of the long ones."""
    chosen = [*(("smooth", model) for model in settings.smooth), *(("ReLU", model) for model in settings.rough)]
    trainings = zip(SPREADS, (settings.near, settings.far), strict=True)
    for (kind, model), graph, (name, training) in product(chosen, settings.graphs, trainings):
        first = graph == settings.graphs[0]
        for stage, steps in ((("early", settings.early),) if first else ()) + (("late", settings.late),):
            isotropic = stage == "late" and first
            yield (
                f"{kind} {stage} {name} {_activation(model)} {graph} {seed}",
                Run(
                    task=Task(settings.data),
                    model=model,
                    topology=Static(Topology(graph, settings.n)),
                    learning_rate=training.learning_rate,
                    batch_size=training.batch_size,
                    steps=steps,
                    seed=seed,
                    dtype=settings.dtype,
                    metrics=(Consensus(every=0), Accuracy(every=0), *_probes(settings, isotropic)),
                ),
            )


def _quadratic(settings: Settings, seed: int) -> Iterator[tuple[str, Run]]:
    """A loss with the same Hessian everywhere, trained with noise alone."""
    run = Run(
        task=Task(NoData()),
        model=Quadratic(200, (0.1, 1.0, 2.0)),
        topology=Static(Topology(settings.graphs[0], settings.n)),
        batch_size="full",
        gradient_noise=1.0,
        steps=settings.early,
        seed=seed,
        dtype="float64",
        metrics=tuple(_probes(settings, False)),
    )
    yield f"quadratic {seed}", run


def _probes(settings: Settings, isotropic: bool) -> Iterator[Smoothing]:
    probe = Smoothing(settings.examples, settings.directions, settings.pairs)
    yield from (replace(probe, scale=scale) for scale in settings.scales)
    if isotropic:
        yield replace(probe, isotropic=True)


def _activation(model: Model) -> str:
    return str(vars(model)["activation"])


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    claims = [*_natural_claims(found), *_scaled_claims(settings, found)]
    claims += [*_bound_claims(settings, found), *_controls(found)]
    tables = [_table(settings, found, stage) for stage in ("early", "late")]
    shown = (("span", "Along the span of the replicas"), ("off", "Off the span"))
    figures = [*(_ratio_figure(settings, found, *one) for one in shown), _bound_figure(settings, found)]
    return Report(claims, tables, figures, settings.departures, _answer(settings, found, claims), DEFINITIONS)


def _natural_claims(found: Histories) -> Iterator[Claim]:
    """At s = 1: what the replicas' own spread does."""
    for start in PARTS:
        ratios = histories.by_seed(found, start, "smoothing_ratio_span")
        yield ratios.claim(f"{start}: along the span", "claim", None, 1.0, "the mean ratio along the span is below 1")
    for start in PARTS:
        ratios = histories.by_seed(found, start, "smoothing_ratio_off")
        criterion = "the mean ratio in directions orthogonal to the span is 1 ± 0.05"
        yield ratios.claim(f"{start}: off the span", "claim", 0.95, 1.05, criterion)


def _scaled_claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    """As all deviations are multiplied by s."""
    small, large = settings.scales[0], settings.scales[-1]
    for start in PARTS:
        powers = _powers(found, start, "ratio_span", small, 1.0)
        criterion = f"from s = {small:g} to 1 the ratio along the span goes as s to a power below 0"
        yield powers.claim(f"{start}: smoothing grows up to s = 1", "claim", None, 0.0, criterion)
    for start in PARTS:
        powers = _powers(found, start, "ratio_span", 1.0, large)
        criterion = f"from s = 1 to {large:g} the ratio along the span goes as s to a power below 0"
        yield powers.claim(f"{start}: smoothing grows beyond s = 1", "claim", None, 0.0, criterion)
    for kind in KINDS:
        powers = _powers(found, kind, "cancelling_span", small, large)
        criterion = "what averaging leaves of the changes along the span goes as s to a power below 0"
        yield powers.claim(f"{kind}: cancelling grows", "claim", None, 0.0, criterion)
    criterion = f"at s = {small:g} the ratio along the span is smaller for ReLU than for smooth networks"
    of_both = ("ReLU", _named(small, "ratio_span")), ("smooth", _named(small, "ratio_span"))
    yield _difference(found, *of_both).claim("kinks are smoothed", "claim", None, 0.0, criterion)


def _bound_claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    failures = _over_networks(found, [_named(s, "bound_failures") for s in settings.scales], max)
    criterion = "the averaged gradient changes by more than the bound in none of the directions, at no s"
    yield failures.claim("the bound holds", "claim", None, 0.0, criterion)
    to_beta = _over_networks(found, [_named(1.0, "bound_to_beta")], fmean)
    criterion = "at s = 1 the least bound of a snapshot's directions is below β, on average"
    yield to_beta.claim("the bound says more than β", "claim", None, 1.0, criterion)


def _controls(found: Histories) -> Iterator[Claim]:
    ratios = histories.by_seed(found, "quadratic", "smoothing_ratio_span")
    yield ratios.claim("quadratic", "control", 1 - 1e-9, 1 + 1e-9, "the ratio along the span is 1 to nine digits")
    ratios = histories.by_seed(found, "smooth late", f"{ISOTROPIC}_ratio_span")
    criterion = "with isotropic noise of Ξ's trace the mean ratio along the span is 1 ± 0.01"
    yield ratios.claim("smooth late: isotropic noise", "control", 0.99, 1.01, criterion)
    noise = ("ReLU late", f"{ISOTROPIC}_ratio_span"), ("ReLU late", f"{ISOTROPIC}_ratio_off")
    criterion = "with isotropic noise of Ξ's trace the mean ratio along the span is not below that off it"
    yield _difference(found, *noise).claim("ReLU late: isotropic noise", "control", 0.0, None, criterion)


def _named(scale: float, name: str) -> str:
    return f"{Smoothing(scale=scale).prefix}_{name}"


def _powers(found: Histories, start: str, name: str, *scales: float) -> Sample:
    """The mean over a seed's snapshots of the power of s between two scales."""

    def of_run(rows: History) -> float | None:
        return histories.power(scales, [rows[-1][_named(scale, name)] for scale in scales])

    seeds = histories.seeds(found, start)
    return histories.sample([of_run(rows) for rows in histories.select(found, start, seed)] for seed in seeds)


def _difference(found: Histories, one: tuple[str, str], other: tuple[str, str]) -> Sample:
    """The mean of one metric over a seed's runs, less that of the other: each the start of labels, and a name."""

    def means(start: str, name: str) -> list[float | None]:
        chosen = (histories.select(found, start, seed) for seed in histories.seeds(found, start))
        return [histories.mean(histories.measurements(rows, name)) for rows in chosen]

    return one_a_seed(histories.differences(means(*one), means(*other)))


def _over_networks(found: Histories, names: Sequence[str], of_seed: Callable[[Sequence[float]], float]) -> Sample:
    """One value a seed of some metrics on all of its networks."""

    def of(seed: int) -> list[float | None]:
        chosen = [rows for kind in KINDS for rows in histories.select(found, kind, seed)]
        return [value for name in names for value in histories.measurements(chosen, name)]

    return histories.sample((of(seed) for seed in histories.seeds(found, "smooth")), of_seed)


def _answer(settings: Settings, found: Histories, claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers; whether there is smoothing follows from the verdicts."""
    judged = histories.judged(claims)
    networks = [rows for kind in KINDS for rows in histories.select(found, kind)]
    rank = max(histories.available(networks, "smoothing_rank"), default=0.0)
    shares = [v for s in settings.scales for v in histories.available(networks, _named(s, "bound_share"))]
    to_beta = histories.available(networks, "smoothing_bound_to_beta")
    products = [
        f"{start} {one:.2f} times {other:.2f}"
        for start in PARTS
        for one, other in [histories.medians(histories.select(found, start), *FACTORS)]
        if one is not None and other is not None
    ]
    across = "refuted" in {judged[f"{start}: off the span"].verdict for start in PARTS}
    kept = judged["the bound holds"].verdict == "supported"
    paragraphs = (
        f"The global bound is vacuous: Ξ had rank {rank:g}, at most n − 1 = {settings.n - 1} and far below the number "
        "of parameters, so σ_min is 0 and min(√2 α/σ_min, β) is β, which any average keeps to.",
        f"What averaging over the replicas' own spread does at their mean, along the span: {_verdict(judged)}. The "
        f"mean ratio was {_each(judged, 'along the span')}; off the span, where 1 was expected, "
        f"{_each(judged, 'off the span')}"
        f"{': averaging along a few directions changes the gradient across all others too.' if across else '.'}",
        "The ratio is how much more curved the loss is where the replicas are than at their mean, times what averaging "
        f"leaves of that; medians along the span: {', '.join(products) or 'unmeasured'}. No average raises the largest "
        "constant over all w; a ratio above 1 says that the mean lies where the loss is less curved than around it.",
        f"The bound along the span was {'kept to' if kept else 'exceeded'}: the averaged gradient changed by "
        f"{histories.reach(shares)} of it, the nearest in a snapshot. At s = 1 a snapshot's least bound was "
        f"{histories.reach(to_beta)} times β; above 1 it says nothing that β does not.",
    )
    return "\n\n".join(paragraphs)


def _verdict(judged: Mapping[str, Judged]) -> str:
    """Which networks, at which stage, were smoothed at s = 1."""
    verdicts = {start: judged[f"{start}: along the span"].verdict for start in PARTS}
    words = {"supported": "smoothing", "refuted": "none", "inconclusive": "undecided"}
    groups = {word: [start for start in PARTS if verdicts[start] == verdict] for verdict, word in words.items()}
    return "; ".join(f"{word} for {', '.join(starts)}" for word, starts in groups.items() if starts)


def _each(judged: Mapping[str, Judged], where: str) -> str:
    estimates = {start: judged[f"{start}: {where}"].interval.estimate for start in PARTS}
    return ", ".join(f"{start} {'unmeasured' if v is None else f'{v:.2f}'}" for start, v in estimates.items())


def _table(settings: Settings, found: Histories, stage: str) -> Table:
    values = {
        "sd along the span": "spread",
        "ratio, span": "ratio_span",
        "± sampling": "ratio_span_error",
        "ratio, off": "ratio_off",
        "± sampling, off": "ratio_off_error",
        "surroundings": "surroundings_span",
        "cancelling": "cancelling_span",
        "share of the bound": "bound_share",
    }
    graphs = settings.graphs if stage == "late" else settings.graphs[:1]
    rows = [
        (activation, graph, spread, s, *histories.medians(chosen, *(_named(s, name) for name in values.values())))
        for kind, models in zip(KINDS, (settings.smooth, settings.rough), strict=True)
        for activation, graph, spread in product(map(_activation, models), graphs, SPREADS)
        for chosen in [histories.select(found, f"{kind} {stage} {spread} {activation} {graph}")]
        for s in settings.scales
    ]
    caption = (
        "Medians over seeds. Replicas are far apart at the larger learning rate with the smaller batches. The sampling "
        "error is that of the draws of N(0, Ξ); surroundings and cancelling are along the span."
    )
    steps = settings.late if stage == "late" else settings.early
    columns = ("activation", "graph", "replicas", "s", *values)
    return Table(f"After {steps} steps", columns, rows, caption)


def _ratio_figure(settings: Settings, found: Histories, where: str, title: str) -> Figure:
    series = [
        _series(start, found, [f"{start} {spread}" for spread in SPREADS], settings.scales, f"ratio_{where}")
        for start in PARTS
    ]
    caption = "A point for each s and way of training: median over seeds, and range. Below 1 there is smoothing."
    return curves(title, series, SD, "ratio of the constants", caption, logarithmic="xy", joined=False)


def _bound_figure(settings: Settings, found: Histories) -> Figure:
    quantities = (("lipschitz_span", "at the mean"), ("smoothed_span", "averaged"), ("bound", "bound"))
    series = [
        _series(f"{start}: {label}", found, [f"{start} far"], settings.scales, name)
        for start in ("smooth late", "ReLU late")
        for name, label in quantities
    ]
    caption = "Replicas far apart, by s. Median over seeds of a seed's mean over directions, and its range."
    title, axis = "Along the span: the constants and the bound", "largest change of the gradient / distance"
    return curves(title, series, SD, axis, caption, logarithmic="xy")


def _series(label: str, found: Histories, starts: Sequence[str], scales: Sequence[float], name: str) -> Series:
    """A metric over the replicas' spread: the median over seeds and the range, for each start of labels and s."""
    points = []
    for start, scale in product(starts, scales):
        x, y = (histories.by_seed(found, start, _named(scale, metric)).values for metric in ("spread", name))
        points += [(median(x), median(y), min(y), max(y))] if x and y else []
    return Series(label, *(zip(*sorted(points), strict=True) if points else ((), ())))
