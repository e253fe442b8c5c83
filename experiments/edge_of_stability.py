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
Departs    Bars and (lr, ρ) of single models are those that a numpy reproduction had found; here GD, USAM and SSAM take
           3,000 steps, not 5,000, and in the quadratic model crossing is that of the loss's Hessian, not of the tangent
           kernel. Nothing was known of rings: after a first look at the pilot their bar went from a twentieth to a
           tenth (the edges of the other modes, and of GD, are 1.5 to 3 times as far), the shards' claims from 0.97 and
           1.03 to below and above 1, and the share that crosses from one a seed to one of all.
Pilot      Quadratic models end at 0.986 to 0.998 of the edge, 27 of 40 cross it and converge; the networks' medians are
           1.000 to 1.006, SAM's 1.014 and 1.030. Of equal losses the ring stops at lr λ = 0.69, where 1 + μ_min is
           2/3, lazy at 1.36 (4/3), complete at 1.01 (1), and adapt_then_combine at 2.01; D-USAM and D-SAM are 1.04 and
           1.06 of theirs. With shards the joint step is at 1.01 and 1.04, the mean model below the edge of equal
           losses (0.94, 0.89), its replicas above (1.22, 1.09). SSAM at USAM's lr and ρ is 1.5 times as sharp.
Expect     All supported. The mean mode alone, 2 / lr, tells the edge of D-GD in adapt_then_combine only.
Seeds      Criteria were set on seeds 0 to 4 (pilots/edge_of_stability.json) and are judged on seeds from 800 on.
Takes      smoke 5 seconds; standard 8 minutes on 2 cores, twice that where the seeds are doubled; long (the same with
           10 seeds, the full 5,000 steps and more, rings of 8) an hour or two; paper is for a GPU, and was never run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, quantiles
from typing import Any

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, Iid, NoData, Regression, Shards
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.histories import Histories
from dsgd.learning_rates import Constant, Multistep
from dsgd.metrics import Accuracy, Consensus, StabilityEdge
from dsgd.models import Mlp, QuadraticRegression
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.stability import StepRule
from dsgd.statistics import mean_interval, shown
from dsgd.study import Claim, Figure, Report, Table, judge
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Does training hold the curvature at the edge of stability that lr, rho and the mixing matrix predict?"

ATC = "adapt_then_combine"
RATIO, OF_REPLICAS, ENSEMBLE, LAMBDA = "edge_ratio", "edge_ratio_replicas", "edge_ensemble", "edge_lambda_max"


@dataclass(frozen=True)
class Arm:
    """How a network is trained; `data` one: a single replica with all examples, same: each of them with all, or shards.

    The median of `value` in the second half of training is claimed to lie in `bar`; None: nothing of the kind is.
    It takes `longer` times as many steps as others.
    """

    lr: float
    gradient: Gradient = field(default_factory=Plain)
    data: str = "one"
    graph: str = "complete"
    weights: str = "auto"
    order: str = "consensus"
    value: str = RATIO
    bar: tuple[float, float] | None = None
    longer: float = 1.0


A2, A3, RING = (0.98, 1.02), (0.98, 1.04), (0.9, 1.1)
SAME: dict[str, Any] = {"data": "same", "value": OF_REPLICAS, "bar": RING}
SHARDS: dict[str, Any] = {"data": "shards", "value": ENSEMBLE, "bar": RING}
LAZY: dict[str, Any] = {"data": "shards", "weights": "lazy", "order": ATC, "graph": "ring"}
ARMS = {
    "GD 0.2": Arm(0.2, bar=A2),
    "USAM 0.1 0.1": Arm(0.1, Usam(0.1), bar=A2),
    "USAM 0.1 0.2": Arm(0.1, Usam(0.2), bar=A2),
    "USAM 0.1 0.3": Arm(0.1, Usam(0.3), bar=A2),
    "SAM 0.1 0.05": Arm(0.1, Sam(0.05), bar=A3, longer=5 / 3),
    "SAM 0.1 0.1": Arm(0.1, Sam(0.1), bar=A3, longer=5 / 3),
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
GROUPS = {  # words for them, and the start of their names
    "GD": ("GD 0.2",),
    "USAM": ("USAM 0.1",),
    "SAM": ("SAM 0.1",),
    "SSAM-U": ("SSAM-U 0.2",),
    "replicas, equal": ("D-GD equal", "D-USAM equal", "D-SAM equal"),
    "edge out of reach": ("GD 0.1", "USAM 0.05"),
}
NEVER = ("GD 0.1", "USAM 0.05 0.05")
CONTROL = "D-GD shards complete ATC"
SHARDED = ("D-GD shards ring", "D-GD shards lazy ring ATC")
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
    """What a preset fixes. `scale` divides every learning rate, and rho where it is one, for data that curve the loss
    more."""

    seeds: int = 5
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Regression(Digits(train_size=500)))
    widths: tuple[int, ...] = (64, 64)
    scale: float = 1.0
    warmup: int = 0
    equal: int = 4
    shards: int = 10
    steps: int = 3000
    ring_steps: int = 1200
    every: int = 150
    products: int = 16
    landscapes: int = 2
    quadratic_steps: int = 4000
    quadratic_every: int = 20
    departures: tuple[str, ...] = ()


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
        quadratic_steps=30,
        quadratic_every=15,
    ),
    "standard": Settings(),
    "long": Settings(10, steps=5000, ring_steps=3000, equal=8, quadratic_every=5),
    "paper": Settings(
        3,
        data=Regression(Cifar10(train_size=5000)),
        widths=(200, 200),
        scale=30.0,
        warmup=1000,
        steps=20_000,
        ring_steps=10_000,
        departures=(
            "Of the paper the abstract alone was read: sizes, learning rates and radii are not its own.",
            "The network and the 5,000 images are those of Cohen et al. 2021 (arXiv 2103.00065).",
            "Learning rates, and the rho of USAM and SSAM, are 1 / 30 of those in the names, after a warm-up.",
        ),
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
    gradient, lr = arm.gradient, arm.lr / settings.scale
    if isinstance(gradient, Usam | Ssam):
        gradient = replace(gradient, rho=gradient.rho / settings.scale)
    edge = StabilityEdge(products=settings.products, replicas=n > 1, every=settings.every)
    return Run(
        task=Task(settings.data, Shards() if arm.data == "shards" else Iid()),
        model=Mlp(settings.widths, init="lecun"),
        topology=Static(Topology(arm.graph, n, arm.weights)),
        algorithm=arm.order,
        gradient=gradient,
        learning_rate=Multistep(lr, settings.warmup, milestones=()) if settings.warmup else Constant(lr),
        batch_size="full",
        gradient_noise=NOISE if arm.data == "same" else 0.0,
        steps=round(arm.longer * (settings.steps if n == 1 else settings.ring_steps)),
        seed=seed,
        metrics=(Consensus(every=settings.every), Accuracy(every=0), edge),
    )


def _quadratic(settings: Settings, rho: float, landscape: int, seed: int) -> Run:
    edge = StabilityEdge(products=settings.products, replicas=False, every=settings.quadratic_every)
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
        metrics=(Accuracy(every=0), edge),
    )


def _edge(rho: float) -> float:
    return StepRule(LR, rho=rho, ascent="gradient").edge()


@dataclass(frozen=True)
class Found:
    """The histories, as medians over the second half of training, one a seed."""

    settings: Settings
    histories: Histories

    @property
    def seeds(self) -> range:
        return _seeds(self.settings)

    def values(self, arm: str, seed: int, name: str) -> dict[int, float]:
        """The values of a metric that are there, by step."""
        return {row["step"]: row[name] for row in self.histories[f"{arm} {seed}"] if row.get(name) is not None}

    def late(self, arm: str, seed: int, name: str) -> list[float]:
        """Those of the second half of a run."""
        values = self.values(arm, seed, name)
        return [value for step, value in values.items() if 2 * step >= max(values)]

    def medians(self, arm: str, name: str) -> list[float | None]:
        late = (self.late(arm, seed, name) for seed in self.seeds)
        return [median(values) if values else None for values in late]

    def largest(self, arm: str) -> list[float]:
        """Each seed's largest ratio of the whole training."""
        return [max(self.values(arm, seed, RATIO).values()) for seed in self.seeds]

    def curve(self, label: str, arm: str, name: str) -> Series:
        """The median over seeds at each step."""
        found = [self.values(arm, seed, name) for seed in self.seeds]
        steps = sorted(set.intersection(*map(set, found)))
        return Series(label, steps, [median(values[step] for values in found) for step in steps])

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


def _quadratic_claims(found: Found) -> Iterator[Claim]:
    for rho in RHOS:
        ends = [fmean(end) for seed in found.seeds if (end := found.settled(rho, seed))]
        words = f"rho {rho:g}: of the runs that crossed the edge and converged, ratio at the end in [0.97, 1.005]"
        yield _claim(f"quadratic model, rho {rho:g}", ends, 0.97, 1.005, words)
    settled = [[ratio for rho in RHOS for ratio in found.settled(rho, seed)] for seed in found.seeds]
    inside = [fmean(0.94 <= ratio <= 1.01 for ratio in ratios) for ratios in settled if ratios]
    yield _claim("quadratic model, every run", inside, 1.0, None, "share of the same whose ratio is in [0.94, 1.01]: 1")
    many = sum(map(len, settled)) / (len(RHOS) * found.settings.landscapes * len(found.seeds))
    words = "share of all runs that cross the edge and converge: half or more"
    yield _claim("quadratic model, how many", [many], 0.5, None, words)


def _network_claims(found: Found) -> Iterator[Claim]:
    for name, arm in ARMS.items():
        if arm.bar:
            what = "ensemble" if arm.value == ENSEMBLE else "ratio"
            words = f"{name}: {what} in [{arm.bar[0]:g}, {arm.bar[1]:g}]"
            yield _claim(name, found.medians(name, arm.value), *arm.bar, words)
    reaches = [max(_reach(found.late(name, seed, RATIO)) for name in list(ARMS)[:4]) for seed in found.seeds]
    words = "10th and 90th percentiles of lambda over the edge, GD and USAM: the farthest is within 0.05 of 1"
    yield _claim("GD, USAM: 10-90 band", reaches, None, 0.05, words)
    words = "lambda of USAM at lr 0.1, rho 0.1, over that of GD at lr 0.2: in [0.98, 1.02]"
    yield _claim("one edge for GD and USAM", _quotients(found, "USAM 0.1 0.1", "GD 0.2"), 0.98, 1.02, words)
    words = "lambda of SSAM-U over that of USAM, at lr 0.1, rho 0.2: 1.3 or more"
    quotients = _quotients(found, "SSAM-U 0.1 0.2", "USAM 0.1 0.2")
    yield _claim("SSAM gives up USAM's hold", quotients, 1.3, None, words)
    mean, replicas = (found.medians(SHARDED[0], name) for name in (RATIO, OF_REPLICAS))
    words = "D-GD on the ring, shards: lambda of the {} over the edge of equal losses: {}"
    yield _claim("shards: the mean is below", mean, None, 1.0, words.format("mean model", "at most 1"))
    yield _claim("shards: replicas are above", replicas, 1.0, None, words.format("replicas", "1 or more"))


def _quotients(found: Found, above: str, below: str) -> Values:
    pairs = zip(*(found.medians(arm, LAMBDA) for arm in (above, below)), strict=True)
    return [None if a is None or not b else a / b for a, b in pairs]


def _reach(values: Sequence[float]) -> float:
    """How far the 10th or the 90th percentile is from 1."""
    cuts = quantiles(values, n=10, method="inclusive")
    return max(abs(cuts[0] - 1), abs(cuts[-1] - 1))


def _controls(found: Found) -> Iterator[Claim]:
    for name in NEVER:
        words = f"{name}: the largest lambda of the training over the edge: below 0.8"
        yield _claim(f"{name}: edge not reached", found.largest(name), None, 0.8, words, True)
    words = "D-GD on the complete graph, adapt_then_combine, shards: ratio in [0.98, 1.03], as GD's"
    yield _claim("complete graph: GD", found.medians(CONTROL, RATIO), 0.98, 1.03, words, True)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    read = Found(settings, found)
    claims = [*_quadratic_claims(read), *_network_claims(read), *_controls(read)]
    answer = _answer(read, {one.claim.name: one.verdict for one in judge(claims)})
    tables = _networks_table(read), _quadratic_table(read)
    return Report(claims, tables, tuple(_figures(read)), settings.departures, answer, DEFINITIONS)


COLUMNS = {
    "edge": "edge_predicted",
    "lambda": LAMBDA,
    "ratio": RATIO,
    "replicas' lambda": "edge_lambda_max_replicas",
    "replicas' ratio": OF_REPLICAS,
    "ensemble": ENSEMBLE,
    "Tr Xi": "trace_xi",
}


def _networks_table(found: Found) -> Table:
    def mean(name: str, metric: str) -> float | None:
        known = [value for value in found.medians(name, metric) if value is not None]
        return fmean(known) if known and not (metric == "trace_xi" and ARMS[name].data == "one") else None

    def row(name: str, arm: Arm) -> tuple[Any, ...]:
        knobs = arm.lr / found.settings.scale, getattr(arm.gradient, "rho", None)
        return name, *knobs, *(mean(name, metric) for metric in COLUMNS.values())

    rows = [row(name, arm) for name, arm in ARMS.items()]
    caption = "Means over seeds of medians over the second half of training."
    return Table("Curvature and its edge", ("runs", "lr", "rho", *COLUMNS), rows, caption)


def _quadratic_table(found: Found) -> Table:
    rows = []
    for rho in RHOS:
        ends = [ratio for seed in found.seeds for ratio in found.settled(rho, seed)]
        spread = (min(ends), median(ends), max(ends)) if ends else (None,) * 3
        rows.append((rho, _edge(rho), len(found.seeds) * found.settings.landscapes, len(ends), *spread))
    columns = ("rho", "edge", "runs", "crossed and converged", "least ratio", "median", "largest")
    return Table("The quadratic regression model, lr 0.05", columns, rows, "Ratios at the end of training.")


def _figures(found: Found) -> Iterator[Figure]:
    caption, over = "Medians over seeds.", "lambda over its edge"
    methods = ("GD 0.2", "USAM 0.1 0.2", "SAM 0.1 0.1", "SSAM-U 0.2 0.2", NEVER[0])
    yield curves("One model", [found.curve(arm, arm, RATIO) for arm in methods], "step", over, caption)
    pairs = {"": LAMBDA, ", edge": "edge_predicted"}
    series = [found.curve(arm + words, arm, name) for arm in methods[1:3] for words, name in pairs.items()]
    yield curves("Curvature and the edge of SAM", series, "step", "lambda", f"{caption} SAM's edge moves with |g|.")
    series = [_in_steps(found, arm) for arm in ARMS if arm.startswith("D-GD equal")]
    yield curves("Replicas of equal losses", series, "step", "lr lambda", f"{caption} Behind the names: 1 + mu.")
    whose = {"mean model": RATIO, "replicas": OF_REPLICAS, "ensemble": ENSEMBLE}
    series = [found.curve(f"{arm}: {words}", arm, name) for arm in SHARDED for words, name in whose.items()]
    yield curves("Replicas with shards of their own", series, "step", "over the edge", caption)
    series = [_points(found, label, starts) for label, starts in GROUPS.items()]
    caption = "One point a run, of replicas their mean."
    yield curves("Where curvature settles", series, "predicted edge", f"{over}, second half", caption, joined=False)


def _in_steps(found: Found, arm: str) -> Series:
    """The curvature that a step sees, lr lambda, with the predicted one behind the name."""
    lr = ARMS[arm].lr / found.settings.scale
    curve, edge = found.curve(arm, arm, LAMBDA), found.curve(arm, arm, "edge_predicted").y[-1]
    label = f"{arm}: {lr * edge:.3g}" if edge else arm
    return replace(curve, label=label, y=[None if value is None else lr * value for value in curve.y])


def _points(found: Found, label: str, starts: tuple[str, ...]) -> Series:
    end = "_replicas" if label.startswith("replicas") else ""
    arms = [name for name in ARMS if name.startswith(starts)]
    x, y = ([v for arm in arms for v in found.medians(arm, name + end)] for name in ("edge_predicted", RATIO))
    return Series(label, [value or 0.0 for value in x], y)


WORDS = {"supported": "", "refuted": "not everywhere ", "inconclusive": "as far as can be told "}


def _answer(found: Found, verdicts: Mapping[str, str]) -> str:
    """What was found, in words and measured numbers."""

    def ratio(arm: str, name: str | None = None) -> str:
        known = [value for value in found.medians(arm, name or ARMS[arm].value) if value is not None]
        return shown(mean_interval(known), 3) if known else "not available"

    def told(arms: Sequence[str]) -> tuple[str, str]:
        """Whether all are where they should be, and where each is."""
        worst = next(
            (one for one in ("refuted", "inconclusive") if one in {verdicts[arm] for arm in arms}), "supported"
        )
        return WORDS[worst], ", ".join(f"{arm} {ratio(arm)}" for arm in arms)

    settled = [ratio for rho in RHOS for seed in found.seeds for ratio in found.settled(rho, seed)]
    quadratic = f"at {median(settled):.3f} of it, the median of {len(settled)}" if settled else "nowhere, for none does"
    models = told([name for name, arm in ARMS.items() if arm.data == "one" and arm.bar])
    equal = told([name for name in ARMS if " equal " in name])
    shards, _ = told(SHARDED)
    never = max(value for name in NEVER for value in found.largest(name))
    whose = {"ensemble": ENSEMBLE, "mean model": RATIO, "replicas": OF_REPLICAS}
    joint = "; ".join(f"{arm}: " + ", ".join(f"{w} {ratio(arm, name)}" for w, name in whose.items()) for arm in SHARDED)
    return (
        f"Quadratic regression models that cross the edge and converge end {quadratic}. Networks settle {models[0]}at "
        f"the edge; lambda over it is {models[1]}. Where the edge is out of reach it is {never:.2f} at most.\n\n"
        f"Replicas of equal losses settle {equal[0]}at the edge of their least stable mode: {equal[1]}.\n\n"
        f"With shards of their own the joint step sits {shards}at the edge: {joint}."
    )
