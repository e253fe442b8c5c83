"""Where does curvature stop growing, for SAM and for D-SGD?

Question   Does full-batch training hold the Hessian's largest eigenvalue λ at the largest that its step is stable at?
Claim      Agarwala & Dauphin 2023 (ICML, arXiv 2302.08692): SAM has an edge of stability of its own, told by lr and ρ.
           Unnormalised: lr λ (1 + ρ λ) = 2. Normalised (Long & Bartlett 2024, arXiv 2309.12488): ρ / |g| in ρ's place.
Ours       SSAM: 2 / γ in place of 2, γ = |g| / |g'|. D-GD of equal losses, order `consensus`: a mode of the replicas
           with W's eigenvalue μ is multiplied by μ − lr λ, so λ must stop where lr λ = 1 + μ_min, and SAM's formulas
           hold with 1 + μ_min for 2. Where W is applied to the gradient too (adapt_then_combine), the mean is the
           first to turn unstable: 2. With shards of their own the largest eigenvalue of lr A H A − W must stop at 1.
Measured   The quadratic regression model, crossed and converged: λ over the edge at the end. Digits, tanh MLP, squared
           error, full batches: the median of λ over the edge in the second half of training. Rings of equal data and
           of shards; noise of 1e-6 in the gradient lets equal replicas part.
Controls   Where the edge is above what the net reaches (GD at lr 0.1, USAM at 0.05, 0.05) λ must stay below 0.8 of it.
           D-GD on the complete graph, adapt_then_combine, with shards, must sit where GD does.
Departs    Bars and (lr, ρ) of A's rows are those that a numpy reproduction had measured before; here 3,000 steps, not
           5,000; in the quadratic model 1,000, and crossing is that of the loss's Hessian, not of the tangent kernel.
           Bars of the rings were set on theory and the pilot.
Expect     PILOT
Seeds      Bars were set on seeds from 0 (pilots/edge_of_stability.json) and are judged on seeds from 800 on.
Takes      smoke 4 seconds; standard 6 minutes on 2 cores, twice that where the seeds are doubled; long (Fashion-MNIST)
           an hour; paper is for a GPU, and was never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, quantiles
from typing import Any

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, Iid, NoData, Regression, Shards
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.histories import Histories
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Consensus, StabilityEdge
from dsgd.models import Mlp, QuadraticRegression
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.stability import StepRule
from dsgd.statistics import mean_interval, shown
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Does training hold the curvature at the edge of stability that lr, rho and the mixing matrix predict?"

ATC = "adapt_then_combine"
RATIO, OF_REPLICAS, ENSEMBLE = "edge_ratio", "edge_ratio_replicas", "edge_ensemble"


@dataclass(frozen=True)
class Arm:
    """How a network is trained; `data` one: a single replica with all examples, same: each of them with all, or shards.

    The median of `value` in the second half of training is claimed to lie in `bar`; None: nothing of the kind is.
    """

    lr: float
    gradient: Gradient = field(default_factory=Plain)
    data: str = "one"
    graph: str = "complete"
    weights: str = "auto"
    order: str = "consensus"
    value: str = RATIO
    bar: tuple[float, float] | None = None


A2, A3, RING = (0.98, 1.02), (0.98, 1.04), (0.95, 1.05)
SAME: dict[str, Any] = {"data": "same", "value": OF_REPLICAS, "bar": RING}
SHARDS: dict[str, Any] = {"data": "shards", "value": ENSEMBLE, "bar": RING}
LAZY: dict[str, Any] = {"data": "shards", "weights": "lazy", "order": ATC, "graph": "ring"}
ARMS = {
    "GD 0.2": Arm(0.2, bar=A2),
    "USAM 0.1 0.1": Arm(0.1, Usam(0.1), bar=A2),
    "USAM 0.1 0.2": Arm(0.1, Usam(0.2), bar=A2),
    "USAM 0.1 0.3": Arm(0.1, Usam(0.3), bar=A2),
    "SAM 0.1 0.05": Arm(0.1, Sam(0.05), bar=A3),
    "SAM 0.1 0.1": Arm(0.1, Sam(0.1), bar=A3),
    "SSAM-U 0.2 0.2": Arm(0.2, Ssam(0.2), bar=A2),
    "SSAM-U 0.1 0.2": Arm(0.1, Ssam(0.2)),
    "GD 0.1": Arm(0.1),
    "USAM 0.05 0.05": Arm(0.05, Usam(0.05)),
    "D-GD equal ring": Arm(0.1, graph="ring", **SAME),
    "D-GD equal lazy ring": Arm(0.2, graph="ring", weights="lazy", **SAME),
    "D-GD equal complete": Arm(0.1, **SAME),
    "D-GD equal ring ATC": Arm(0.2, graph="ring", order=ATC, **SAME),
    "D-USAM equal ring": Arm(0.1, Usam(0.1), graph="ring", **SAME),
    "D-SAM equal ring": Arm(0.1, Sam(0.05), graph="ring", **SAME),
    "D-GD shards ring": Arm(0.1, graph="ring", **SHARDS),
    "D-GD shards lazy ring ATC": Arm(0.2, value=ENSEMBLE, bar=RING, **LAZY),
    "D-USAM shards lazy ring ATC": Arm(0.1, Usam(0.1), **LAZY),
    "D-SAM shards lazy ring ATC": Arm(0.1, Sam(0.05), **LAZY),
    "D-GD shards complete ATC": Arm(0.2, data="shards", order=ATC),
}
LAMBDA_AND_EDGE = (("edge_lambda_max", "lambda"), ("edge_predicted", "edge"))
GROUPS = {  # words for them, and the start of their names
    "GD": ("GD 0.2",),
    "USAM": ("USAM 0.1",),
    "SAM": ("SAM 0.1",),
    "SSAM-U": ("SSAM-U 0.2",),
    "replicas, equal": ("D-GD equal", "D-USAM equal", "D-SAM equal"),
}
NEVER = ("GD 0.1", "USAM 0.05 0.05")
CONTROL = "D-GD shards complete ATC"
NOISE = 1e-6  # in the gradients of equal replicas, which would be equal for ever
LR, RHOS, BELOW, CONVERGED = 0.05, (0.0, 0.05, 0.2, 1.0), 0.75, 1e-6  # of the quadratic model
DEFINITIONS = {
    "lambda": "the largest eigenvalue of the Hessian of the training loss, at the mean of the replicas",
    "edge": "the largest lambda at which a step is stable: lr gamma lambda (1 + c lambda) = 1 + mu",
    "c": "0 for GD, rho for USAM and SSAM-U, rho / |g| for SAM, g the gradient of the moment",
    "gamma": "|g| over the length of the gradient uphill for SSAM, 1 for others",
    "mu": "the least eigenvalue of W in the order consensus, 1 in the order adapt_then_combine (ATC) and for one model",
    "ratio": "lambda over the edge, the median over the second half of training",
    "equal, shards": "every replica has all examples, or a disjoint share of them",
    "ensemble": "the largest eigenvalue of lr A H A - W on all replicas' parameters, H of each one's own loss, A = 1 "
    "in the order consensus and W^(1/2) in ATC: a step multiplies by its negative",
    "name lr rho": "how the runs are named; the rings have lr and rho in the table",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes. `scale` divides every learning rate and USAM's rho, for data that curve the loss more."""

    seeds: int = 6
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Regression(Digits(train_size=500)))
    widths: tuple[int, ...] = (64, 64)
    scale: float = 1.0
    equal: int = 4
    shards: int = 10
    steps: int = 3000
    ring_steps: int = 1500
    every: int = 100
    products: int = 24
    landscapes: int = 2
    quadratic_steps: int = 1000
    quadratic_every: int = 5
    departures: tuple[str, ...] = ()


NOT_READ = (
    "Of the paper the abstract alone was read: sizes, learning rates and radii of its experiments are not its own."
)
presets = {
    "smoke": Settings(
        seeds=1,
        seed=0,
        data=Regression(Digits(train_size=60)),
        widths=(8,),
        equal=4,
        shards=4,
        steps=20,
        ring_steps=20,
        every=10,
        products=4,
        landscapes=1,
        quadratic_steps=60,
        quadratic_every=20,
    ),
    "standard": Settings(),
    "long": Settings(5, data=Regression(FashionMnist(train_size=1000)), scale=4.0, steps=4000, ring_steps=2000),
    "paper": Settings(
        3,
        data=Regression(Cifar10(train_size=5000)),
        widths=(200, 200),
        scale=10.0,
        steps=20_000,
        ring_steps=10_000,
        departures=(NOT_READ, "The network and the 5,000 images are those of Cohen et al. 2021 (arXiv 2103.00065)."),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run by its label, which ends with the seed."""
    networks = {
        f"{name} {seed}": _network(settings, arm, seed) for name, arm in ARMS.items() for seed in _seeds(settings)
    }
    return networks | {
        f"quadratic {rho:g} {place} {seed}": _quadratic(settings, rho, seed * settings.landscapes + place, seed)
        for rho in RHOS
        for place in range(settings.landscapes)
        for seed in _seeds(settings)
    }


def _seeds(settings: Settings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _network(settings: Settings, arm: Arm, seed: int) -> Run:
    n = {"one": 1, "same": settings.equal, "shards": settings.shards}[arm.data]
    gradient = arm.gradient
    if isinstance(gradient, Usam | Ssam):
        gradient = replace(gradient, rho=gradient.rho / settings.scale)
    edge = StabilityEdge(products=settings.products, replicas=n > 1, every=settings.every)
    return Run(
        task=Task(settings.data, Shards() if arm.data == "shards" else Iid()),
        model=Mlp(settings.widths, init="lecun"),
        topology=Static(Topology(arm.graph, n, arm.weights)),
        algorithm=arm.order,
        gradient=gradient,
        learning_rate=Constant(arm.lr / settings.scale),
        batch_size="full",
        gradient_noise=NOISE if arm.data == "same" else 0.0,
        steps=settings.steps if n == 1 else settings.ring_steps,
        seed=seed,
        metrics=(Consensus(every=settings.every), Accuracy(every=0), edge),
    )


def _quadratic(settings: Settings, rho: float, landscape: int, seed: int) -> Run:
    return Run(
        task=Task(NoData()),
        model=QuadraticRegression(kernel=BELOW * _edge(rho), landscape=landscape),
        topology=Static(Topology("complete", 1)),
        gradient=Usam(rho) if rho else Plain(),
        learning_rate=Constant(LR),
        batch_size="full",
        steps=settings.quadratic_steps,
        seed=seed,
        dtype="float64",
        metrics=(
            Accuracy(every=0),
            StabilityEdge(products=settings.products, replicas=False, every=settings.quadratic_every),
        ),
    )


def _edge(rho: float) -> float:
    return StepRule(LR, rho=rho, ascent="gradient").edge()


@dataclass(frozen=True)
class Found:
    """The histories, as medians over the second half of training, one a seed."""

    settings: Settings
    histories: Histories

    def late(self, arm: str, seed: int, name: str) -> list[float]:
        """The values of a metric in the second half of a run."""
        rows = self.histories[f"{arm} {seed}"]
        half = [row for row in rows if 2 * row["step"] >= rows[-1]["step"]]
        return [row[name] for row in half if row.get(name) is not None]

    def medians(self, arm: str, name: str) -> list[float | None]:
        late = (self.late(arm, seed, name) for seed in _seeds(self.settings))
        return [median(values) if values else None for values in late]

    def maxima(self, arm: str, name: str) -> list[float]:
        return [max(row[name] for row in self._rows(arm, seed, name)) for seed in _seeds(self.settings)]

    def _rows(self, arm: str, seed: int, name: str) -> list[Mapping[str, Any]]:
        return [row for row in self.histories[f"{arm} {seed}"] if row.get(name) is not None]

    def curve(self, arm: str, name: str) -> tuple[list[int], list[list[float | None]]]:
        """The steps, and each seed's values there."""
        rows = [[row for row in self.histories[f"{arm} {seed}"] if name in row] for seed in _seeds(self.settings)]
        return [row["step"] for row in rows[0]], [[row[name] for row in one] for one in rows]

    def settled(self, rho: float, seed: int) -> list[float]:
        """The last ratios of the seed's quadratic models that crossed the edge and converged."""
        ends = []
        for place in range(self.settings.landscapes):
            rows = self.histories[f"quadratic {rho:g} {place} {seed}"]
            crossed = max(row[RATIO] for row in rows) > 1
            if crossed and rows[-1]["train_loss_mean_model"] < CONVERGED:
                ends.append(rows[-1][RATIO])
        return ends


Values = Sequence[float | None]


def _claim(
    name: str, values: Values, low: float | None, high: float | None, words: str, control: bool = False
) -> Claim:
    found = histories.sample([value] for value in values)
    return found.claim(name, "control" if control else "claim", low, high, words)


def _quotients(above: Values, below: Values) -> list[float | None]:
    return [None if a is None or not b else a / b for a, b in zip(above, below, strict=True)]


def _quadratic_claims(found: Found) -> Iterator[Claim]:
    seeds, settings = _seeds(found.settings), found.settings
    for rho in RHOS:
        ends = [found.settled(rho, seed) for seed in seeds]
        words = (
            f"rho {rho:g}: of the runs that crossed the edge and converged, the ratio at the end is in [0.97, 1.005]"
        )
        yield _claim(f"quadratic model, rho {rho:g}", [fmean(end) if end else None for end in ends], 0.97, 1.005, words)
    settled = [[ratio for rho in RHOS for ratio in found.settled(rho, seed)] for seed in seeds]
    inside = [fmean(0.94 <= ratio <= 1.01 for ratio in ratios) if ratios else None for ratios in settled]
    yield _claim("quadratic model, every run", inside, 1.0, None, "share of the same whose ratio is in [0.94, 1.01]: 1")
    shares = [len(ratios) / (len(RHOS) * settings.landscapes) for ratios in settled]
    yield _claim("quadratic model, how many", shares, 0.5, None, "share of runs that cross the edge and converge: 0.5")


def _network_claims(found: Found) -> Iterator[Claim]:
    for name, arm in ARMS.items():
        if arm.bar:
            what = "ensemble" if arm.value == ENSEMBLE else "ratio"
            words = f"{name}: {what} in [{arm.bar[0]:g}, {arm.bar[1]:g}]"
            yield _claim(name, found.medians(name, arm.value), *arm.bar, words)
    deviations = [
        max(_reach(found.late(name, seed, RATIO)) for name in list(ARMS)[:4]) for seed in _seeds(found.settings)
    ]
    words = "10th and 90th percentiles of lambda over the edge, GD and USAM: the farthest is within 0.05 of 1"
    yield _claim("GD, USAM: 10-90 band", deviations, None, 0.05, words)
    quotients = _quotients(found.medians("USAM 0.1 0.1", "edge_lambda_max"), found.medians("GD 0.2", "edge_lambda_max"))
    words = "lambda of USAM at lr 0.1, rho 0.1, over that of GD at lr 0.2: in [0.98, 1.02]"
    yield _claim("one edge for GD and USAM", quotients, 0.98, 1.02, words)
    both = (found.medians(name, "edge_lambda_max") for name in ("SSAM-U 0.1 0.2", "USAM 0.1 0.2"))
    words = "lambda of SSAM-U over that of USAM, at lr 0.1, rho 0.2: 1.3 or more"
    yield _claim("SSAM gives up USAM's hold", _quotients(*both), 1.3, None, words)
    words = "D-GD on the ring, shards of its own: {} the edge of equal losses by 0.03 or more: ratio {}"
    ring = "D-GD shards ring"
    yield _claim(
        "shards: the mean", found.medians(ring, RATIO), None, 0.97, words.format("the mean model is below", "<= 0.97")
    )
    text = words.format("the replicas are above", ">= 1.03")
    yield _claim("shards: the replicas", found.medians(ring, OF_REPLICAS), 1.03, None, text)


def _reach(values: Sequence[float]) -> float:
    """How far the 10th or the 90th percentile is from 1."""
    cuts = quantiles(values, n=10, method="inclusive")
    return max(abs(cuts[0] - 1), abs(cuts[-1] - 1))


def _controls(found: Found) -> Iterator[Claim]:
    for name in NEVER:
        words = f"{name}: the largest lambda of the training over the edge: below 0.8"
        yield _claim(f"{name}: edge not reached", found.maxima(name, RATIO), None, 0.8, words, True)
    words = "D-GD on the complete graph, adapt_then_combine, shards: ratio in [0.98, 1.03], as GD's"
    yield _claim("complete graph: GD", found.medians(CONTROL, RATIO), 0.98, 1.03, words, True)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    read = Found(settings, found)
    claims = [*_quadratic_claims(read), *_network_claims(read), *_controls(read)]
    tables = (_arms_table(read), _quadratic_table(read))
    return Report(claims, tables, tuple(_figures(read)), settings.departures, _answer(read), DEFINITIONS)


def _shown(values: Values, digits: int = 3) -> str:
    known = [value for value in values if value is not None]
    return shown(mean_interval(known), digits) if known else "not available"


def _arms_table(found: Found) -> Table:
    columns = (
        "runs",
        "lr",
        "rho",
        "edge",
        "lambda",
        "ratio",
        "lambda, replicas",
        "ratio, replicas",
        "ensemble",
        "Tr Xi",
    )
    names = ("edge_predicted", "edge_lambda_max", RATIO, "edge_lambda_max_replicas", OF_REPLICAS, ENSEMBLE, "trace_xi")
    rows = []
    for name, arm in ARMS.items():
        shared = [found.medians(name, one) for one in names]
        means = [fmean(known) if (known := [v for v in values if v is not None]) else None for values in shared]
        means[-1] = None if arm.data == "one" else means[-1]
        rows.append((name, arm.lr / found.settings.scale, getattr(arm.gradient, "rho", None), *means))
    caption = "Means over seeds of medians over the second half of training; None where it is not defined."
    return Table("Curvature at the end, and the edge", columns, rows, caption)


def _quadratic_table(found: Found) -> Table:
    seeds = _seeds(found.settings)
    rows = []
    for rho in RHOS:
        ends = [ratio for seed in seeds for ratio in found.settled(rho, seed)]
        spread = (min(ends), median(ends), max(ends)) if ends else (None,) * 3
        rows.append((rho, _edge(rho), len(seeds) * found.settings.landscapes, len(ends), *spread))
    columns = ("rho", "edge", "runs", "crossed and converged", "least ratio", "median", "largest")
    return Table("The quadratic regression model, lr 0.05", columns, rows, "Ratios at the end of training.")


def _figures(found: Found) -> Iterator[Figure]:
    def band(label: str, arm: str, name: str) -> Series:
        steps, seeds = found.curve(arm, name)
        return replace(histories.band(label, steps, seeds), lo=None, hi=None)

    methods = ("GD 0.2", "USAM 0.1 0.2", "SAM 0.1 0.1", "SSAM-U 0.2 0.2", *NEVER[:1])
    title, caption = "Curvature over its edge, one model", "Medians over seeds."
    yield curves(title, [band(arm, arm, RATIO) for arm in methods], "step", "lambda over the edge", caption)
    pairs = [(arm, name, words) for arm in methods[1:3] for name, words in LAMBDA_AND_EDGE]
    series = [band(f"{arm}: {words}", arm, name) for arm, name, words in pairs]
    yield curves("Curvature and its edge, SAM", series, "step", "lambda", f"{caption} SAM's edge moves with |g|.")
    yield curves(
        "Where curvature settles",
        [_diagonal(found), *(_points(found, label, chosen) for label, chosen in GROUPS.items())],
        "predicted edge",
        "lambda in the second half of training",
        "One point a run; of replicas, the mean of theirs. On the line lambda is at the edge.",
        joined=False,
    )
    ring = "D-GD shards ring"
    series = [band(words, ring, name) for name, words in ((RATIO, "mean model"), (OF_REPLICAS, "replicas"))]
    series.append(band("ensemble", ring, ENSEMBLE))
    yield curves("Shards of their own, on a ring", series, "step", "over the edge", f"{caption} Order consensus.")


def _diagonal(found: Found) -> Series:
    edges = [value for name in ARMS for value in found.medians(name, "edge_predicted") if value is not None]
    line = [min(edges) + (max(edges) - min(edges)) * place / 30 for place in range(31)]
    return Series("lambda at the edge", line, line)


def _points(found: Found, label: str, starts: tuple[str, ...]) -> Series:
    end = "_replicas" if label.startswith("replicas") else ""
    arms = [name for name in ARMS if name.startswith(starts)]
    x, y = (
        [v for arm in arms for v in found.medians(arm, name + end)] for name in ("edge_predicted", "edge_lambda_max")
    )
    return Series(label, [0.0 if value is None else value for value in x], y)


def _answer(found: Found) -> str:
    """What was found, in words and measured numbers."""

    def ratio(arm: str, name: str | None = None) -> str:
        return _shown(found.medians(arm, name or ARMS[arm].value))

    def listed(arms: Sequence[str]) -> str:
        return ", ".join(f"{arm} {ratio(arm)}" for arm in arms)

    settled = [ratio for rho in RHOS for seed in _seeds(found.settings) for ratio in found.settled(rho, seed)]
    quadratic = (
        f"{median(settled):.3f} of the edge, median of {len(settled)}" if settled else "nowhere: none crossed it"
    )
    equal = [name for name in ARMS if " equal " in name]
    one = [name for name, arm in ARMS.items() if arm.data == "one" and arm.bar]
    shards = ("D-GD shards ring", "D-GD shards lazy ring ATC")
    joint = "; ".join(
        f"{arm}: ensemble {ratio(arm, ENSEMBLE)}, mean model {ratio(arm, RATIO)}, replicas {ratio(arm, OF_REPLICAS)}"
        for arm in shards
    )
    return "\n\n".join(
        (
            f"Quadratic regression models that cross the edge and converge end at {quadratic}. On digits, lambda over "
            f"the edge is {listed(one)}. Where the edge is out of reach it is at most "
            f"{max(value for name in NEVER for value in found.maxima(name, RATIO)):.2f}.",
            f"Replicas of equal losses settle where 1 + mu says: over it, {listed(equal)}. In the order "
            "consensus the edge is that of the replicas' disagreement, and so lower than GD's at the same lr.",
            f"With shards of their own it is the joint step that sits at the edge: {joint}.",
        )
    )
