"""Does D-SGD's regularisation shrink as the total batch grows?

Question   C-SGD's implicit regulariser falls as 1/|B| with the total batch. D-SGD's, tr(HΞ)/2, is claimed not to fall.
           Does it?
Claim      Zhu et al. 2023 (ICML, arXiv 2306.02913), abstract: the sharpness regularisation does not decrease with the
           total batch. Abstract and poster do not say how the batch grows, and Ξ depends on it.
Measured   Total batches |B| = n B in three modes that must not be confused. A: the learning rate fixed, B grows. B: B
           fixed, n grows. C: B grows and the learning rate with it (linear scaling, the paper's protocol). In each the
           powers of Tr Ξ, of tr(HΞ)/2, of λ_max and tr H at the mean model, and of C-SGD's own
           lr/(4|B|) tr Cov (N − |B|)/(N − 1) (Smith et al. 2021, arXiv 2101.12176), averaged over a run's snapshots
           from half of its steps on. C-SGD and AD-SAM are twins on the same batches. Replicas are dealt disjoint
           mini-batches of one pass, whose differences have variance 2σ²/B N/(N − 1): Tr Ξ needs no correction for
           drawing without replacement.
Controls   adapt_then_combine on the complete graph is C-SGD: it has no Ξ. Under additive noise that does not depend
           on B Tr Ξ must not fall in mode A.
Expect     Mode A refutes "does not fall"; modes B and C support it. In mode C Tr Ξ goes as B to the 0.7, less than
           the 1 of linear theory at a given noise, for the gradients' variance falls as training gets further; "at
           equal noise" was added for that when the pilot had been seen.
Seeds      Criteria were set on seeds 0 to 9 (pilots/batch_size_scaling.json) and are judged from seed 900 on. An
           earlier version, with a control that could hardly fail, was looked at on seeds 800 to 809: the same verdicts.
Takes      smoke 4 seconds; standard 3 minutes on 2 cores; long (Fashion-MNIST) half an hour; paper is for a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.histories import Histories, History, Sample, seeds_of
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Consensus, Curvature, Equivalence, GradientNoise
from dsgd.models import Mlp, Model, ResNet18
from dsgd.plots import Series, log_log
from dsgd.run import Run
from dsgd.statistics import shown
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology, stationary_consensus
from topologies.spectral import Order

question = "Does D-SGD's sharpness regularisation shrink as the total batch grows?"

METHODS: dict[str, tuple[str, Order]] = {
    "ring": ("ring", "consensus"),
    "grid": ("grid", "consensus"),
    "exponential": ("exponential", "consensus"),
    "ring, ATC": ("ring", "adapt_then_combine"),
    "exponential, ATC": ("exponential", "adapt_then_combine"),
    "complete, ATC": ("complete", "adapt_then_combine"),
}
FIRST, CONTROL = "ring", "complete, ATC"
MODES = {
    "A": "lr fixed, local batch B grows",
    "B": "local batch fixed, n grows",
    "C": "local batch B grows, lr in proportion",
}
NOISE_REGULARISER, SPREAD_PER_NOISE = "noise_regulariser", "spread_per_noise"
QUANTITIES = {
    "trace_xi": "Tr Ξ",
    SPREAD_PER_NOISE: "Tr Ξ / tr Cov",
    "half_trace_h_xi": "tr(HΞ)/2",
    NOISE_REGULARISER: "C-SGD: lr/(4|B|) tr Cov",
    "lambda_max": "λ_max",
    "hessian_trace": "tr H",
}
TWINS = {"centralized": "C-SGD", "average_direction_sam": "AD-SAM"}
DEFINITIONS = {
    "w, n": "the mean of the replicas, and their number",
    "B, |B|": "a replica's mini-batch, and all replicas' together, n B",
    "Xi": "covariance of the replicas' deviations from their mean w",
    "H, lambda_max": "Hessian of the training loss at w, and its largest eigenvalue",
    "tr(HΞ)/2": "D-SGD's regulariser: how much the replicas' spread raises the loss, to second order",
    "tr Cov, N": "variance of the gradient of one training example's loss, and the number of examples",
    "S(P)": "Tr Xi / (lr^2 sigma^2) in linear theory for gradient noise of variance sigma^2, here tr Cov / B",
    "AD-SAM": "average-direction SAM: a single model on the joint batch, perturbed by N(0, Xi) of the ring's replicas",
    "ATC": "the order adapt_then_combine; without it consensus, which is Zhu et al.'s",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes: `locals` are the local batches of modes A and C, `sizes` the n of mode B.

    `n`, `local` and `lr` are what a mode holds fixed; in mode C the learning rate is lr at the batch `local`. `noise`
    is the control's, additive, of a variance well above that of the smallest mini-batch's gradient.
    """

    seeds: int = 10
    seed: int = 900
    data: DataSource = field(default_factory=Digits)
    model: Model = field(default_factory=lambda: Mlp((32,), "tanh"))
    methods: tuple[str, ...] = tuple(METHODS)
    locals: tuple[int, ...] = (4, 8, 16, 32)
    sizes: tuple[int, ...] = (4, 8, 16, 32)
    n: int = 8
    local: int = 8
    lr: float = 0.1
    noise: float = 4.0
    steps: int = 400
    examples: int = 512
    departures: tuple[str, ...] = ()

    def grown(self, mode: str) -> tuple[int, ...]:
        """What grows in a mode: n, or the local batch."""
        return self.sizes if mode == "B" else self.locals

    def shape(self, mode: str, size: int) -> tuple[int, int, float]:
        """Replicas, local batch and learning rate."""
        if mode == "B":
            return size, self.local, self.lr
        return self.n, size, self.lr * (size / self.local if mode == "C" else 1)


presets = {
    "smoke": Settings(
        seeds=2,
        seed=0,
        data=Digits(train_size=256),
        model=Mlp((8,), "tanh"),
        methods=(FIRST, CONTROL),
        locals=(2, 4),
        sizes=(4, 8),
        n=4,
        local=4,
        steps=40,
        examples=64,
    ),
    "standard": Settings(),
    "long": Settings(
        seeds=5,
        data=FashionMnist(),
        model=Mlp((64,), "tanh"),
        locals=(8, 32, 128, 512),
        sizes=(8, 16, 32, 64),
        n=16,
        steps=1500,
        examples=2048,
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(activation="relu"),
        methods=("ring", "grid", "exponential", "complete, ATC"),
        locals=(8, 64, 512),
        sizes=(4, 16),
        n=16,
        local=64,
        steps=6000,
        examples=2048,
        departures=(
            "GroupNorm in place of BatchNorm; 32 x 32 images, where the official code resizes to 56 x 56.",
            "From scratch, all from one start, where the official runs are mostly pre-trained on ImageNet.",
            "A fresh reshuffled pass is dealt to the replicas, where the official code keeps 16 fixed shards.",
            "A constant learning rate, where the official one warms up and falls twice: powers need a steady state.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, which ends with the seed; modes share the runs that they have in common."""
    modes = {
        _label(settings, mode, method, size, seed): _run(settings, method, settings.shape(mode, size), seed)
        for mode in MODES
        for method in settings.methods
        if method != CONTROL or mode == "A"
        for size in settings.grown(mode)
        for seed in seeds_of(settings)
    }
    return modes | {
        f"noisy {size} {seed}": _noisy(settings, size, seed) for size in settings.locals for seed in seeds_of(settings)
    }


def _noisy(settings: Settings, size: int, seed: int) -> Run:
    """Mode A under additive noise of one size."""
    run = _run(settings, FIRST, settings.shape("A", size), seed)
    return replace(run, twins=(), gradient_noise=settings.noise, metrics=(Consensus(settings.steps // 20),))


def _label(settings: Settings, mode: str, method: str, size: int, seed: int) -> str:
    n, local, lr = settings.shape(mode, size)
    return f"{method} n={n} B={local} lr={lr:g} {seed}"


def _run(settings: Settings, method: str, shape: tuple[int, int, float], seed: int) -> Run:
    """Twins advance beside the first method; where the modes meet the order of the loss gap is measured."""
    n, local, lr = shape
    graph, order = METHODS[method]
    half = settings.steps // 2
    metrics = (
        Consensus(settings.steps // 20),
        Accuracy(every=0),
        Curvature(settings.examples, probes=16, every=half),
        GradientNoise(settings.examples, every=half),
    )
    measures_gap = method == FIRST and shape == settings.shape("A", settings.local)
    return Run(
        task=Task(settings.data),
        model=settings.model,
        topology=Static(Topology(graph, n)),
        algorithm=order,
        twins=(WeightDiversity(), Plain()) if method == FIRST else (),
        batch_size=local,
        learning_rate=Constant(lr),
        steps=settings.steps,
        seed=seed,
        metrics=(*metrics, Equivalence(settings.examples)) if measures_gap else metrics,
    )


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    claims = [*_claims(settings, found), *_controls(settings, found)]
    tables = (_powers_table(settings, found), _twins_table(settings, found), _values_table(settings, found))
    figures = tuple(_figure(settings, found, mode) for mode in MODES)
    return Report(claims, tables, figures, settings.departures, _answer(claims), DEFINITIONS)


def _claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    def power(mode: str, quantity: str) -> Sample:
        return _powers(settings, found, mode, FIRST, quantity)

    yield power("A", "trace_xi").claim("mode A: Tr Xi", "claim", -1.15, -0.85, "Tr Ξ goes as B to the −1 ± 0.15")
    for mode, size in (("B", "n"), ("C", "B")):
        criterion = f"Tr Ξ grows with {size}: a positive power"
        yield power(mode, "trace_xi").claim(f"mode {mode}: Tr Xi grows", "claim", 0.0, None, criterion)
    for mode in MODES:
        criterion = "tr(HΞ)/2 does not fall with |B|: a power of 0 or more"
        yield power(mode, "half_trace_h_xi").claim(
            f"mode {mode}: regulariser does not fall", "claim", 0.0, None, criterion
        )
    criterion = "Tr Ξ / tr Cov goes as B to a power of 0.85 to 1.3: the noise itself falls as training gets further"
    yield power("C", SPREAD_PER_NOISE).claim("mode C: Tr Xi at equal noise", "claim", 0.85, 1.3, criterion)
    criterion = "λ_max at the mean over C-SGD's falls with |B|: a negative power"
    yield _ratios(settings, found, "centralized").claim("mode C: flatter than C-SGD", "claim", None, 0.0, criterion)
    criterion = "λ_max at the mean over AD-SAM's stays as it is: a power of 0 ± 0.05"
    ratios = _ratios(settings, found, "average_direction_sam")
    yield ratios.claim("mode C: as flat as AD-SAM", "claim", -0.05, 0.05, criterion)
    ends = ([found[_label(settings, "A", FIRST, settings.local, seed)]] for seed in seeds_of(settings))
    slopes = histories.sample(histories.measurements(runs, "equivalence_slope_loss_gap") for runs in ends)
    criterion = "|mean L(w_j) − L(w) − s² tr(HΞ)/2| goes as s to the power 3 ± 0.2, s a scale on the deviations"
    yield slopes.claim("loss gap", "claim", 2.8, 3.2, criterion)
    criterion = "mode A: Tr Ξ is at most 1.05 times lr² σ² S(P) at every B: curvature damps what gossip leaves"
    shares = histories.sample(_shares_of_theory(settings, found), max)
    yield shares.claim("Tr Xi below linear theory", "claim", None, 1.05, criterion)


def _controls(settings: Settings, found: Histories) -> Iterator[Claim]:
    spreads = histories.sample(_ladders(settings, found, "A", CONTROL, "trace_xi"), max)
    criterion = "on the complete graph after the update Tr Ξ is at most 1e-10"
    yield spreads.claim("complete graph: no spread", "control", None, 1e-10, criterion)
    ladders = [
        [histories.mean(_late(settings, found[f"noisy {size} {seed}"], "trace_xi")) for size in settings.locals]
        for seed in seeds_of(settings)
    ]
    criterion = "mode A under noise that does not depend on B: Tr Ξ goes as B to the 0 ± 0.15"
    yield histories.powers(settings.locals, ladders).claim("constant noise", "control", -0.15, 0.15, criterion)


def _powers(settings: Settings, found: Histories, mode: str, method: str, quantity: str) -> Sample:
    return histories.powers(settings.grown(mode), _ladders(settings, found, mode, method, quantity))


def _ratios(settings: Settings, found: Histories, twin: str) -> Sample:
    """The power in mode C of D-SGD's lambda_max over its twin's."""
    names = ("lambda_max", f"{twin}_lambda_max")
    ours, theirs = (_ladders(settings, found, "C", FIRST, name) for name in names)
    return histories.powers(settings.locals, map(histories.ratios, ours, theirs))


def _ladders(settings: Settings, found: Histories, mode: str, method: str, quantity: str) -> list[list[float | None]]:
    """For each seed the quantity at each size, averaged over the snapshots from half of the steps on."""

    def late(size: int, seed: int) -> float | None:
        history = found[_label(settings, mode, method, size, seed)]
        return histories.mean(_values(settings, history, settings.shape(mode, size), quantity))

    return [[late(size, seed) for size in settings.grown(mode)] for seed in seeds_of(settings)]


def _values(settings: Settings, history: History, shape: tuple[int, int, float], quantity: str) -> list[float | None]:
    """A quantity at each late snapshot of a run; C-SGD's are its twin's, where there is one."""
    if quantity == NOISE_REGULARISER:
        n, local, lr = shape
        whole = len(settings.data.load().train)
        factor = lr / (4 * n * local) * max(0, whole - n * local) / (whole - 1)
        variances = _late(settings, history, "centralized_gradient_variance")
        return [None if variance is None else factor * variance for variance in variances]
    if quantity == SPREAD_PER_NOISE:
        late = [row for row in history if row["step"] >= settings.steps // 2 and "gradient_variance" in row]
        return [row["trace_xi"] / row["gradient_variance"] for row in late]
    return _late(settings, history, quantity)


def _late(settings: Settings, history: History, name: str) -> list[float | None]:
    """A metric's values from half of the steps on."""
    return histories.measurements([[row for row in history if row["step"] >= settings.steps // 2]], name)


def _shares_of_theory(settings: Settings, found: Histories) -> Iterator[list[float | None]]:
    """Tr Xi over what linear theory gives it, at each local batch of mode A; a list a seed."""
    graph, order = METHODS[FIRST]
    theory = settings.lr**2 * stationary_consensus(Topology(graph, settings.n).matrix(), order)
    pairs = (_ladders(settings, found, "A", FIRST, quantity) for quantity in ("trace_xi", "gradient_variance"))
    for traces, variances in zip(*pairs, strict=True):
        noise = zip(settings.locals, variances, strict=True)
        yield histories.ratios(traces, [None if one is None else theory * one / size for size, one in noise])


def _powers_table(settings: Settings, found: Histories) -> Table:
    rows = [
        (mode, method, *(_powers(settings, found, mode, method, quantity).cell(missing="") for quantity in QUANTITIES))
        for mode in MODES
        for method in settings.methods
        if method != CONTROL
    ]
    caption = f"Powers of the total batch, with 95 % intervals over seeds. {_modes_in_words()}."
    return Table("How each quantity goes with the total batch", ("mode", "method", *QUANTITIES.values()), rows, caption)


def _twins_table(settings: Settings, found: Histories) -> Table:
    columns = ("mode", *(f"{what}, {whose}" for what in ("λ_max", "tr H") for whose in ("D-SGD", *TWINS.values())))
    names = [
        f"{prefix}{name}"
        for name in ("lambda_max", "hessian_trace")
        for prefix in ("", *(f"{twin}_" for twin in TWINS))
    ]
    rows = [(mode, *(_powers(settings, found, mode, FIRST, name).cell(missing="") for name in names)) for mode in MODES]
    return Table("The same for sharpness, on the ring and of its twins", columns, rows, "Powers of the total batch.")


def _values_table(settings: Settings, found: Histories) -> Table:
    """What the powers are made of, and the accuracies, on the ring."""
    whose = {"test_accuracy_mean_model": "w", "test_accuracy_replicas_mean": "the replicas"}
    accuracies = whose | {f"{twin}_test_accuracy": name for twin, name in TWINS.items()}
    columns = ("mode", "|B|", "lr", *QUANTITIES.values(), *(f"accuracy of {name}, %" for name in accuracies.values()))
    rows: list[tuple[str | float | None, ...]] = []
    for mode in MODES:
        ladders = {name: _ladders(settings, found, mode, FIRST, name) for name in (*QUANTITIES, *accuracies)}
        for place, size in enumerate(settings.grown(mode)):
            n, local, lr = settings.shape(mode, size)
            means = {name: histories.mean(rungs[place] for rungs in seeds) for name, seeds in ladders.items()}
            points = histories.percent([means[name] for name in accuracies])
            rows.append((mode, n * local, lr, *(means[name] for name in QUANTITIES), *points))
    return Table("The ring, number by number", columns, rows, "Means over seeds; accuracies at the end of the runs.")


def _figure(settings: Settings, found: Histories, mode: str) -> Figure:
    shapes = (settings.shape(mode, size) for size in settings.grown(mode))
    totals = [n * local for n, local, _ in shapes]

    def curve(method: str, quantity: str, label: str) -> Series:
        return histories.band(label, totals, _ladders(settings, found, mode, method, quantity))

    series = [curve(FIRST, name, QUANTITIES[name]) for name in ("trace_xi", "half_trace_h_xi", NOISE_REGULARISER)]
    others = [method for method in settings.methods if method not in (FIRST, CONTROL)]
    series += [curve(method, "half_trace_h_xi", f"tr(HΞ)/2, {method}") for method in others]
    caption = "On the ring where nothing else is said. Late snapshots; median and range over seeds."
    return log_log(f"Mode {mode}: {MODES[mode]}", series, "total batch |B|", "squared distance, or loss", caption)


def _modes_in_words() -> str:
    return "; ".join(f"{mode}: {text}" for mode, text in MODES.items())


def _answer(claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers."""
    found = histories.judged(claims)
    words = {"supported": "does not fall", "refuted": "falls", "inconclusive": "may fall or not"}
    said = [
        f"{words[one.verdict]} in mode {mode} ({text}), as |B| to the {shown(one.interval)}"
        for mode, text in MODES.items()
        for one in [found[f"mode {mode}: regulariser does not fall"]]
    ]
    ratios = [found[f"mode C: {name}"] for name in ("flatter than C-SGD", "as flat as AD-SAM")]
    powers = [shown(one.interval) for one in ratios]
    return (
        f"Whether D-SGD's regulariser tr(HΞ)/2 shrinks depends on how the batch grows: it {'; it '.join(said)}.\n\n"
        f"Under linear scaling λ_max at the mean model over that of C-SGD goes as |B| to the {powers[0]}, and over "
        f"that of AD-SAM to the {powers[1]}."
    )
