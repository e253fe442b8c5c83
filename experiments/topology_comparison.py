"""Which number of a graph says how well it trains?

Question   Of the graphs and weight rules on which n replicas may gossip, which are good, and which number tells: the
           spectral gap, the effective number of neighbours n_W, or S(P) of linear theory?
Claim      Vogels et al. 2022: the gap does not predict performance, n_W does. Linear theory: Tr Ξ = lr² σ² S(P) at a
           small learning rate. And two that contradict each other: by Zhu et al. 2022 a larger gap generalizes better;
           by Zhu et al. 2023 a larger Tr Ξ means a flatter minimum, which is hoped to generalize better.
Source     arXiv 2206.03093 (Vogels), 2206.12680 (Zhu 2022), 2306.02913 (Zhu 2023) and the work before it.
Measured   Spearman's rank correlation over all graphs and weight rules of one n, the mean over n, one value a seed: so
           n, which decides much, is held fixed. Four settings: data shared by all replicas, shares by Dirichlet(0.1),
           where topology matters more, and shared data at a small and at a large learning rate. The order is Zhu's,
           `consensus`. n_W is that of γ = (1 − lr h)², as Vogels et al. take it on a quadratic of curvature h once the
           loss no longer falls; h = tr(HΞ) / Tr Ξ, the mean curvature that the replicas' spread sees, was read off the
           pilot's runs, one number a setting, and is frozen; the report has what its own runs measured beside it.
Controls   n_W dealt out to the graphs at random must rank nothing: a check of the pairing and of the averages, not of
           the runs. The torus of 4 x 4 and the hypercube of 16 are one graph under two names and must have one Tr Ξ.
Expect     The mean model's training loss is ranked by n_W with |rho| 0.96 on shared and on skewed data, by the gap with
           0.72 and 0.77, and so are accuracies on skewed data; with any γ from 0.6 to 0.999 n_W is ahead. Tr Ξ follows
           S(P), with rho 0.99 and the power 0.94 at the small learning rate, 0.98 on skewed data; there n_W ranks it
           worse than the gap (0.84, 0.93; refuted), for forces that persist favour slow modes. At the large learning
           rate nothing ranks the loss (n_W 0.16, the gap 0.09, the other way round: not a claim); distance flattens
           (-0.71) but tests worse, not better (-0.28; refuted); a larger gap generalizes slightly better (-0.17), but
           worse on skewed data (0.41). One peer a step costs a quarter of the exponential graph's bytes, and the
           replicas one and a half points of accuracy on skewed data.
Seeds      Criteria were set on seeds 0 to 9 (pilots/topology_comparison.json) and are judged on seeds from 800 on.
Takes      smoke 5 seconds; standard 4 minutes on 2 cores; long, on Fashion-MNIST, an hour by parts of it; paper is for
           a GPU and was never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from statistics import fmean

import topologies
from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, Dirichlet, FashionMnist, Iid
from dsgd.histories import Histories, History, Sample, seeds_of
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Consensus, Curvature
from dsgd.models import Mlp, Model, ResNet18
from dsgd.plots import Series, curves
from dsgd.randomness import generator
from dsgd.run import Run
from dsgd.statistics import rank_correlation
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task
from topologies import OnePeerExponential, Schedule, Static, Topology

question = "Which number of a graph tells how far apart its replicas stay, and how well they and their mean learn?"

SHARED, SKEWED, SMALL, LARGE = "shared data", "skewed data", "small lr", "large lr"
GRAPHS = (
    *("ring", "path", "star", "grid", "torus", "hypercube", "exponential", "exponential_undirected", "binary_tree"),
    *("random_regular", "complete", "barbell"),
)
RULES = ("metropolis_hastings", "max_degree", "lazy", "uniform")
ONE_PEER = ("one_peer_exponential", "uniform")  # a schedule: it has no W of its own, and is shown beside the graphs

GAP, NEIGHBOURS, THEORY = "spectral gap", "n_W", "S(P)"
CONNECTS = {GAP: 1, NEIGHBOURS: 1, THEORY: -1}  # whether it grows with the graph's connection
XI, LOSS, TEST = "trace_xi", "train_loss_mean_model", "test_accuracy_mean_model"
LOCAL_TEST, SPARE, FLAT = "test_accuracy_replicas_mean", "generalization_gap_mean_model", "hessian_trace"
SEEN = "curvature the spread sees"
TARGETS = {
    XI: ("Tr Xi", -1),
    LOSS: ("training loss, mean model", -1),
    TEST: ("test accuracy, mean model", 1),
    LOCAL_TEST: ("test accuracy, replicas", 1),
    SPARE: ("generalization gap", -1),
    "lambda_max": ("lambda_max", -1),
    FLAT: ("tr H", -1),
}  # what is measured: its name, and whether connection is expected to raise it
PREDICTED = ((SHARED, LOSS), (SKEWED, LOSS), (SKEWED, TEST), (SKEWED, LOCAL_TEST), (SHARED, XI), (SKEWED, XI))
LEAD = "rho in the expected sense, less that"
RANKED: tuple[tuple[str, str, str, str, float | None, float | None, str], ...] = (
    ("Tr Xi by S(P)", SMALL, THEORY, XI, 0.98, None, "is at least 0.98"),
    ("a larger gap generalizes better", LARGE, GAP, SPARE, None, 0.0, "of the two gaps is < 0 (Zhu 2022)"),
    ("distance flattens", LARGE, XI, FLAT, None, 0.0, "of Tr Xi and tr H is < 0 (Zhu 2023)"),
    ("distance tests better", LARGE, XI, TEST, 0.0, None, "of Tr Xi and the mean model's accuracy is > 0"),
)
DEFINITIONS = {
    "W, P": "the mixing matrix: replica i takes the mean of what it hears with the weights of row i",
    "Xi": "covariance of the replicas around their mean model; Tr Xi is the squared consensus distance",
    "S(P)": "Tr Xi / (lr^2 sigma^2) in linear theory, for gradient noise of variance sigma^2 (its trace)",
    "spectral gap": "1 - the second largest modulus of an eigenvalue of W",
    "n_W": "effective number of neighbours, 1 / ((1 - gamma) Var) of the walk x <- W (sqrt(gamma) x + noise)",
    "rho": "Spearman's rank correlation over the graphs and weight rules of one n; its mean over n, one value a seed",
    "H, lambda_max": "Hessian of the training loss at the mean model, and its largest eigenvalue",
    "generalization gap": "test loss less training loss of the mean model",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes: shared and skewed data, which Dirichlet(`alpha`) shares out, at `lr` and several `sizes`.

    The small and the large learning rate are for shared data and 16 replicas. The Hessian is looked at with 16
    replicas, on some `examples`.
    """

    seeds: int = 10
    seed: int = 800
    data: DataSource = field(default_factory=Digits)
    model: Model = field(default_factory=lambda: Mlp((32,), "tanh"))
    graphs: tuple[str, ...] = GRAPHS
    rules: tuple[str, ...] = RULES
    sizes: tuple[int, ...] = (8, 16, 32)
    lr: float = 0.1
    small_lr: float = 0.005
    large_lr: float = 0.5
    alpha: float = 0.1
    batch_size: int = 4
    steps: int = 300
    small_steps: int = 1000
    examples: int = 256
    departures: tuple[str, ...] = ()


FEW = ("ring", "star", "torus", "hypercube", "complete")
DEPARTURES = (
    "Vogels et al. train ResNet-20 and VGG-11 with momentum and tune the learning rate for each graph.",
    "Zhu et al. 2022 train 64 replicas of VGG-11 and ResNet-18; here 16 of ResNet-18 with GroupNorm.",
)
SMOKE = Settings(seed=0, seeds=1, graphs=FEW[:4], rules=RULES[:1], sizes=(16,), steps=10, small_steps=10, examples=16)
LONG = Settings(5, 800, FashionMnist(), Mlp((64,), "tanh"), GRAPHS, RULES[::3], (16,), 0.05, large_lr=0.3)
PAPER = Settings(3, 800, Cifar10(), ResNet18(activation="gelu"), (*FEW, "grid", "exponential"), sizes=(16,))

presets = {
    "smoke": SMOKE,
    "standard": Settings(),
    "long": replace(LONG, batch_size=16, steps=1500, small_steps=1500),
    "paper": replace(PAPER, large_lr=0.8, batch_size=64, steps=6000, small_steps=6000, departures=DEPARTURES),
}


@dataclass(frozen=True)
class Setting:
    """How the runs of one name are trained; `curvature` h sets gamma = (1 - lr h)^2 in n_W."""

    name: str
    lr: float
    curvature: float
    steps: int
    sizes: tuple[int, ...]


def _four(settings: Settings) -> tuple[Setting, ...]:
    return (
        Setting(SHARED, settings.lr, 1.0, settings.steps, settings.sizes),
        Setting(SKEWED, settings.lr, 1.5, settings.steps, settings.sizes),
        Setting(SMALL, settings.small_lr, 0.7, settings.small_steps, (16,)),
        Setting(LARGE, settings.large_lr, 0.3, settings.steps, (16,)),
    )


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, SETTING N GRAPH RULE SEED."""
    return {
        f"{setting.name} {n} {graph} {rule} {seed}": _training(settings, setting, schedule, seed)
        for setting in _four(settings)
        for n in setting.sizes
        for seed in seeds_of(settings)
        for (graph, rule), schedule in _schedules(settings, n, seed).items()
    }


def _training(settings: Settings, setting: Setting, schedule: Schedule, seed: int) -> Run:
    sharp = (Curvature(settings.examples, probes=8),) if schedule.n == 16 else ()
    partition = Dirichlet(settings.alpha, settings.batch_size) if setting.name == SKEWED else Iid()
    return Run(
        task=Task(settings.data, partition),
        model=settings.model,
        topology=schedule,
        learning_rate=Constant(setting.lr),
        batch_size=settings.batch_size,
        steps=setting.steps,
        seed=seed,
        measure_every=max(1, setting.steps // 20),
        metrics=(Consensus(), Accuracy(every=0), *sharp),
    )


def _schedules(settings: Settings, n: int, seed: int) -> dict[tuple[str, str], Static | OnePeerExponential]:
    """Every graph with every rule that it and n allow, but one of each W; and the one-peer schedule."""
    found = _distinct(settings.graphs, settings.rules, n, seed)
    return {**{(graph.graph, graph.weights): Static(graph) for graph in found}, ONE_PEER: OnePeerExponential(n)}


@cache
def _distinct(graphs: tuple[str, ...], rules: tuple[str, ...], n: int, seed: int) -> tuple[Topology, ...]:
    found: dict[bytes, Topology] = {}
    for topology in (Topology(graph, n, rule, seed=seed) for graph in graphs for rule in rules):
        try:
            found.setdefault(topology.matrix().sparse().toarray().round(12).tobytes(), topology)
        except ValueError:  # no torus has 8 nodes, no digraph Metropolis-Hastings weights
            continue
    return tuple(found.values())


@dataclass(frozen=True)
class Place:
    """A graph with its weights in one setting, as one seed's run left it: its own numbers and what was measured."""

    setting: str
    n: int
    seed: int
    graph: str
    rule: str
    values: Mapping[str, float | None]


Places = Sequence[Place]


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    places = [place for setting in _four(settings) for place in _places(settings, setting, found)]
    claims, figures = list(_claims(places)), tuple(_figures(settings, places))
    tables = (_correlation_table(settings, places), _graph_table(places), _curvature_table(settings, places))
    return Report(claims, tables, figures, settings.departures, _answer(places, claims), DEFINITIONS)


def _places(settings: Settings, setting: Setting, found: Histories) -> Iterator[Place]:
    for n in setting.sizes:
        for seed in seeds_of(settings):
            gamma = (1 - setting.lr * setting.curvature) ** 2
            for (graph, rule), schedule in _schedules(settings, n, seed).items():
                measured = _measured(found[f"{setting.name} {n} {graph} {rule} {seed}"])
                yield Place(setting.name, n, seed, graph, rule, {**_numbers(schedule, gamma), **measured})


@cache
def _numbers(schedule: Static | OnePeerExponential, gamma: float) -> dict[str, float | None]:
    """What theory has to say of a graph; of the schedule, only the spread."""
    if isinstance(schedule, OnePeerExponential):
        return {GAP: None, NEIGHBOURS: None, THEORY: _periodic_spread(schedule)}
    W = schedule(0)
    neighbours, spread = topologies.effective_neighbours(W, gamma), topologies.stationary_consensus(W)
    return {GAP: topologies.spectral_gap(W), NEIGHBOURS: neighbours, THEORY: spread}


def _periodic_spread(schedule: OnePeerExponential) -> float:
    """Its S, the mean over a period: X <- W_t X W_t^T + Pi, from consensus; a period forgets all before it."""
    n, spreads = schedule.n, []
    centre = topologies.Identity(n).sparse().toarray() - 1 / n
    X = 0 * centre
    for step in range(2 * schedule.period):
        W = schedule(step).sparse().toarray()
        X = W @ X @ W.T + centre
        spreads.append(float(X.trace()) / n)
    return fmean(spreads[schedule.period :])


def _measured(rows: History) -> dict[str, float | None]:
    """The last row's values, h = tr(H Xi) / Tr Xi among them, and Tr Xi averaged over the second half of the run."""
    last, late = rows[-1], [row[XI] for row in rows if 2 * row["step"] > rows[-1]["step"]]
    seen = 2 * last["half_trace_h_xi"] / last[XI] if last.get("half_trace_h_xi") is not None else None
    return {**{name: last.get(name) for name in (*TARGETS, "bytes_sent")}, XI: fmean(late), SEEN: seen}


def _sample(places: Places, setting: str, of: Callable[[Places], list[float | None]]) -> Sample:
    """One value a seed: the mean of what is asked of the graphs of each n, those that have a W."""
    seeds: dict[int, dict[int, list[Place]]] = {}
    for place in (place for place in places if place.setting == setting and place.values[GAP] is not None):
        seeds.setdefault(place.seed, {}).setdefault(place.n, []).append(place)
    return histories.sample([value for group in sizes.values() for value in of(group)] for sizes in seeds.values())


def _rho(places: Places, x: str, y: str) -> float | None:
    return rank_correlation([place.values.get(x) for place in places], [place.values.get(y) for place in places])


def _correlations(places: Places, setting: str, x: str, y: str) -> Sample:
    return _sample(places, setting, lambda group: [_rho(group, x, y)])


def _lead(places: Places, setting: str, y: str, x: str, over: str) -> Sample:
    """How much better x ranks y than `over` does, each correlation counted in the direction that is expected."""

    def lead(group: Places) -> list[float | None]:
        skills = [CONNECTS[name] * rho for name in (x, over) if (rho := _rho(group, name, y)) is not None]
        return [TARGETS[y][1] * (skills[0] - skills[1]) if len(skills) == 2 else None]

    return _sample(places, setting, lead)


def _claims(places: Places) -> Iterator[Claim]:
    theory, criterion = f"{SMALL}: Tr Xi by S(P)", f"its {LEAD} of the spectral gap, > 0"
    for setting, y in PREDICTED:
        lead = _lead(places, setting, y, NEIGHBOURS, GAP)
        yield lead.claim(f"{setting}: {TARGETS[y][0]}, by n_W", "claim", 0.0, None, criterion)
    for name, setting, x, y, low, high, words in RANKED:
        yield _correlations(places, setting, x, y).claim(f"{setting}: {name}", "claim", low, high, f"rho {words}")
    yield _lead(places, SMALL, XI, THEORY, GAP).claim(f"{theory}, over the gap", "claim", 0.0, None, criterion)
    criterion = f"its {LEAD} of n_W, is 0 +- 0.02: alike at gamma ~ 1"
    yield _lead(places, SMALL, XI, THEORY, NEIGHBOURS).claim(f"{theory}, beside n_W", "claim", -0.02, 0.02, criterion)
    powers, criterion = _sample(places, SMALL, _power), "over the graphs, Tr Xi grows as S(P) to the power 1 +- 0.1"
    yield powers.claim(f"{theory}, its power", "claim", 0.9, 1.1, criterion)
    criterion = "rho is 0 +- 0.1 when the graphs' n_W are dealt out at random, 16 times"
    for setting, y in ((SHARED, XI), (SKEWED, LOSS)):
        ranks = _sample(places, setting, partial(_dealt, y=y))
        yield ranks.claim(f"{setting}: {TARGETS[y][0]} by n_W of other graphs", "control", -0.1, 0.1, criterion)
    ratios = _sample(places, SHARED, _one_graph)
    criterion = "Tr Xi of the torus of 4 x 4 over that of the hypercube of 16, the same graph, is 1 +- 0.1"
    yield ratios.claim(f"{SHARED}: one graph, two names", "control", 0.9, 1.1, criterion)


def _power(places: Places) -> list[float | None]:
    theory = [float(place.values[THEORY] or 0) for place in places]
    return [histories.power(theory, [place.values[XI] for place in places])]


def _dealt(places: Places, y: str) -> list[float | None]:
    stream = generator(places[0].seed, "dealt", places[0].setting, places[0].n)
    measured, own = ([place.values[name] for place in places] for name in (y, NEIGHBOURS))
    return [rank_correlation([own[i] for i in stream.permutation(len(own))], measured) for _ in range(16)]


def _one_graph(places: Places) -> list[float | None]:
    spread = {(place.graph, place.n): place.values[XI] for place in places if place.rule == RULES[0]}
    torus, cube = spread.get(("torus", 16)), spread.get(("hypercube", 16))
    return [torus / cube] if torus and cube else []


def _correlation_table(settings: Settings, places: Places) -> Table:
    asked = [(setting.name, y) for setting in _four(settings) for y in TARGETS]
    rows = [(s, TARGETS[y][0], *(_correlations(places, s, x, y).cell() for x in (*CONNECTS, XI))) for s, y in asked]
    caption = "Mean over seeds of rho at fixed n, of the n at which it is defined, with its 95 % interval."
    return Table("What ranks what", ("setting", "rho of", *CONNECTS, "Tr Xi"), rows, caption)


def _curvature_table(settings: Settings, places: Places) -> Table:
    def seen(setting: str) -> Sample:
        return _sample(places, setting, lambda group: [place.values[SEEN] for place in group])

    rows = [(one.name, one.lr, one.curvature, seen(one.name).cell()) for one in _four(settings)]
    caption = "At 16 replicas, mean over graphs, then over seeds with its 95 % interval; gamma = (1 - lr h)^2 in n_W."
    return Table("The curvature h behind n_W", ("setting", "lr", "h, frozen", "tr(H Xi) / Tr Xi"), rows, caption)


def _mean(places: Places, setting: str, name: str) -> dict[tuple[str, str], float | None]:
    """Of every graph and rule at 16 replicas: the mean over seeds."""
    found: dict[tuple[str, str], list[float | None]] = {}
    for place in places:
        if (place.setting, place.n) == (setting, 16):
            found.setdefault((place.graph, place.rule), []).append(place.values[name])
    return {key: histories.mean(values) for key, values in found.items()}


def _graph_table(places: Places) -> Table:
    of_shared = [_mean(places, SHARED, name) for name in (THEORY, NEIGHBOURS, GAP, "bytes_sent", XI, LOSS)]
    shown = [*of_shared, *(_mean(places, SKEWED, name) for name in (LOSS, TEST, LOCAL_TEST))]
    columns = (
        *("graph", "weights", "S(P)", "n_W", "spectral gap", "bytes sent", f"Tr Xi, {SHARED}", f"loss, {SHARED}"),
        *(f"loss, {SKEWED}", "accuracy, mean model", "accuracy, replicas"),
    )
    caption = f"At 16 replicas, means over seeds: training loss of the mean model, test accuracies on {SKEWED}."
    rows = [(*key, *(column[key] for column in shown)) for key in shown[0]]
    return Table("The graphs", columns, sorted(rows, key=lambda row: float(row[2] or 0)), caption)


def _figures(settings: Settings, places: Places) -> Iterator[Figure]:
    def points(label: str, setting: str, x: str, y: str, scale: float = 1.0, rule: str = "") -> Series:
        xs, ys = (_mean(places, setting, name) for name in (x, y))
        kept = {key: at * scale for key, at in xs.items() if at is not None and key[1].startswith(rule)}
        return Series(label, list(kept.values()), [ys[key] for key in kept])

    cloud = partial(curves, joined=False)
    every = "A point for each graph with its weights at 16 replicas, means over seeds"
    of_all = [points(setting.name, setting.name, THEORY, XI) for setting in _four(settings)]
    caption = f"{every}; the dotted line has the power that theory gives."
    yield cloud("Spread and linear theory", of_all, "S(P)", "Tr Xi", caption, logarithmic="xy", guides=((1.0, ""),))
    two = [points(GAP, SKEWED, GAP, LOSS), points("n_W / n", SKEWED, NEIGHBOURS, LOSS, 1 / 16)]
    axes = "spectral gap, or n_W / n", "training loss, mean model"
    yield cloud(f"What ranks the graphs on {SKEWED}", two, *axes, f"{every}, by two of its numbers.")
    by_rule = [points(rule, SKEWED, "bytes_sent", LOCAL_TEST, rule=rule) for rule in settings.rules]
    axes, caption = ("bytes sent", "test accuracy, replicas"), f"{every}; {ONE_PEER[0]} is among the uniform ones."
    yield cloud(f"What accuracy costs on {SKEWED}", by_rule, *axes, caption, logarithmic="x")


def _answer(places: Places, claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers, and what did not come out as claimed."""

    def rho(setting: str, x: str, y: str) -> str:
        values = _correlations(places, setting, x, y).values
        return f"{fmean(values):.2f}" if values else "(not available)"

    ranked = "; ".join(f"on {s} rho {rho(s, NEIGHBOURS, LOSS)} and {rho(s, GAP, LOSS)}" for s in (SHARED, SKEWED))
    spread = ", ".join(f"{rho(s, THEORY, XI)} at {s}" for s in (SMALL, SHARED, SKEWED, LARGE))
    others = histories.not_supported(histories.judged(claims))
    return (
        f"Among graphs of one size, n_W and the spectral gap rank the mean model's training loss thus: {ranked}; at "
        f"{LARGE} {rho(LARGE, NEIGHBOURS, LOSS)} and {rho(LARGE, GAP, LOSS)}. S(P) ranks Tr Xi with rho {spread}.\n\n"
        f"At {LARGE}, where replicas are far apart, rho of Tr Xi is {rho(LARGE, XI, FLAT)} with the mean model's tr H "
        f"and {rho(LARGE, XI, TEST)} with its test accuracy.\n\nNot as stated: {others or 'nothing'}."
    )
