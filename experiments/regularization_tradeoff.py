"""Does consensus distance trade optimisation for flatness?

Question   Do replicas that are farther apart train their mean into a flatter minimum of a higher loss, and is it their
           distance alone that decides?
Claim      Zhu et al. 2023 (ICML, arXiv 2306.02913): a larger consensus distance means more sharpness regularisation and
           worse optimisation. Kong et al. 2021 (arXiv 2102.04828): below a critical distance D-SGD is as quick as
           C-SGD; distance in the first phase of training costs accuracy (2.40 points), in the middle it gains (0.43).
           Wang & Johansson 2026 (arXiv 2602.02899): gossip that fades with the learning rate finds flatter minima.
Measured   One training at many distances: set by the graph, the gossip period, the share of gossip that is taken, by
           control to a target, by gossip that fades, or in one third of the steps alone. tr H and λ_max at the mean
           model, its losses and accuracy, paired by seed with C-SGD: the complete graph in adapt_then_combine, which
           is the order of all. Kong's critical distance Γ is measured along C-SGD.
Controls   That graph is C-SGD. Distance that no gradient sees (combine_then_adapt on the complete graph takes its
           gradients at the mean) does nothing; seen (consensus) it does. On a quadratic, whose smoothed gradient is its
           gradient, the mean's path does not feel it. C-SGD that trains less is not flatter.
Expect     The trade is there: tr H falls to 0.71 of C-SGD's (0.65 at equal training loss) as the loss rises to 1.15.
           The distance averaged over the steps says how flat, whatever sets it and whenever it is there (R² 0.94), but
           not the loss (0.45; refuted): in the early third distance raises it (1.18), in the middle it lowers it (0.89)
           and flattens as much, so no trade; late there is little of it and it does little (three refuted). Kong's
           signs are found: early costs 2.3 points at lr 1, none at 0.5; the middle gains 0.3 at 0.5. Γ² is cautious:
           ten times as much in the first third costs 2 % of loss. Gossip that fades is flatter at a lower loss. Flatter
           is not more accurate: at lr 1 the loosest loses 1.3 points (refuted). On Fashion-MNIST, by one seed, the
           middle third trades too: its loss is 3.5 times C-SGD's, while the test loss falls.
Seeds      Criteria were set on seeds 0 to 9 (pilots/regularization_tradeoff.json), and are judged from seed 800 on. All
           seeds share one test split: what is found of accuracies, where 0.3 points are one image, is found of it.
Takes      smoke 5 seconds; standard 3 minutes on 2 cores; long (Fashion-MNIST) about an hour; paper is for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import numpy as np

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, NoData
from dsgd.gossip import Adaptive, Gossip, Once, Partial, Phases, Until
from dsgd.histories import Histories, History, seeds_of
from dsgd.learning_rates import Cosine, Multistep
from dsgd.metrics import Accuracy, Consensus, Curvature, GradientNoise
from dsgd.models import Mlp, Model, Quadratic, ResNet18
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.statistics import rank_correlation
from dsgd.study import Claim, Figure, Judged, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology

question = "Does consensus distance trade optimisation for flatness, and is it the distance alone that decides?"

C_SGD = "complete 1"
THIRDS = ("early", "middle", "late")
LOSS, TEST_LOSS, ACCURACY = "train_loss_mean_model", "test_loss_mean_model", "test_accuracy_mean_model"
TRACE, TOP = "hessian_trace", "lambda_max"
STOPPED = (1.3, 0.9, 0.8, 0.7)  # of the steps: C-SGD that trains more or less, its learning rate falling all the same
EXACT = 0.01  # relative: what replicas in float32 are let to differ in where they should not
Values = tuple[float, ...]
DEFINITIONS = {
    "w, w_j, n": "the mean of the replicas, replica j, and their number",
    "Xi": "covariance of the replicas w_j; its trace is the squared consensus distance, here averaged over the steps",
    "H, lambda_max": "Hessian of the training loss at w when training ends, and its largest eigenvalue",
    "C-SGD": "centralized SGD on the joint mini-batch",
    "graph k": "gossip on this graph every k steps",
    "share s": "complete graph, a replica goes the share s of the way to the mean in each step",
    "until t": "ring, gossip is repeated in each step until Tr Xi <= t",
    "adaptive p": "ring, the share (lr / lr_max)^p of gossip is taken: DSGD-AC",
    "early, middle, late": "complete graph, a small share of gossip in this third of the steps and all of it in others",
    "Gamma^2": "Kong's critical Tr Xi: lr sigma^2 / (lambda_max n) + |grad L(w)|^2 / (8 lambda_max^2), sigma^2 the "
    "variance of a replica's mini-batch gradient",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `rates` are further greatest learning rates, with the loosest share in one third alone."""

    seeds: int = 16
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(train_size=512))
    model: Model = field(default_factory=lambda: Mlp((32,), "tanh"))
    n: int = 16
    graphs: tuple[str, ...] = ("complete", "exponential", "grid", "ring")
    periods: tuple[int, ...] = (1, 4, 16)
    shares: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01)
    targets: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    powers: tuple[float, ...] = (1.0, 3.0)
    learning_rate: Cosine | Multistep = field(default_factory=lambda: Cosine(0.5))
    rates: tuple[float, ...] = (0.2, 1.0)
    batch_size: int = 4
    steps: int = 999
    every: int = 23  # steps between two looks at the distance: no multiple of a period, for it falls at each gossip
    looks: int = 9  # at the critical distance
    examples: int = 512
    probes: int = 16
    departures: tuple[str, ...] = ()

    @property
    def loosest(self) -> str:
        """The slowest graph's rarest gossip."""
        return f"{self.graphs[-1]} {self.periods[-1]}"

    @property
    def of_rates(self) -> list[str]:
        """The cells that other learning rates have too."""
        return [C_SGD, *(f"{self.graphs[-1]} {period}" for period in self.periods), *THIRDS]


presets = {
    "smoke": Settings(
        seeds=1,
        seed=10,
        data=Digits(train_size=128),
        model=Mlp((8,), "tanh"),
        n=4,
        graphs=("complete", "ring"),
        periods=(1, 4),
        shares=(0.1,),
        targets=(0.01,),
        rates=(1.0,),
        steps=27,
        every=5,
        examples=32,
    ),
    "standard": Settings(),
    "long": Settings(
        seeds=5,
        data=FashionMnist(train_size=6000),
        model=Mlp((64,), "tanh"),
        targets=(0.01, 0.03, 0.1, 0.3),
        learning_rate=Cosine(0.2),
        rates=(0.1, 0.3),
        batch_size=8,
        steps=6000,
        examples=1024,
    ),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(activation="gelu"),
        learning_rate=Multistep(0.1, warmup=60),
        rates=(0.05, 0.2),
        batch_size=64,
        steps=6000,
        examples=1024,
        departures=(
            "GroupNorm in place of BatchNorm, whose statistics make each replica's loss another function.",
            "Zhu et al. state the trade in words alone: orders, cells and bounds are ours.",
            "Kong et al. have 64 replicas, momentum, and phases that end where the learning rate falls.",
            "Wang & Johansson train a wide ResNet with momentum along another learning rate.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label: the cell, and the seed."""
    cells = _cells(settings).items()
    return {f"{cell} {seed}": replace(run, seed=seed) for cell, run in cells for seed in seeds_of(settings)}


def _cells(settings: Settings) -> dict[str, Run]:
    """The runs of one seed, by the name of what sets their distance."""
    cells = _trainings(settings)
    for rate in settings.rates:
        again = _trainings(replace(settings, learning_rate=replace(settings.learning_rate, lr=rate)))
        cells |= {f"lr {rate} {cell}": again[cell] for cell in settings.of_rates}
    base, every = cells[C_SGD], settings.steps // settings.looks
    along = (Curvature(settings.examples, probes=0, every=every), GradientNoise(settings.examples, every=every))
    cells["critical"] = replace(base, metrics=along, measure_every=every)
    cells |= {f"stopped {part}": replace(base, steps=round(part * settings.steps)) for part in STOPPED}
    cells["centralized"] = replace(base, algorithm="centralized")
    cells["unseen"] = replace(base, algorithm="combine_then_adapt")
    cells["seen"] = replace(base, algorithm="consensus")
    flat: dict[str, Any] = {"task": Task(NoData()), "model": Quadratic(100, (0.1, 1.0)), "dtype": "float64"}
    flat |= {"batch_size": "full", "gradient_noise": 1.0, "metrics": (Consensus(), Accuracy(every=0))}
    return cells | {f"quadratic {cell}": replace(cells[cell], **flat) for cell in (C_SGD, settings.loosest)}


def _trainings(settings: Settings) -> dict[str, Run]:
    """The runs of one learning rate."""
    third, slow = settings.steps // 3, settings.graphs[-1]
    all_of_it, loose = Once(), Partial(settings.shares[-1])
    phases = {
        "early": Phases((loose, all_of_it), (third,)),
        "middle": Phases((all_of_it, loose, all_of_it), (third, 2 * third)),
        "late": Phases((all_of_it, loose), (2 * third,)),
    }
    cells = {f"{graph} {k}": _run(settings, graph, k) for graph in settings.graphs for k in settings.periods}
    cells |= {f"share {share}": _run(settings, gossip=Partial(share)) for share in settings.shares}
    cells |= {f"until {target}": _run(settings, slow, gossip=Until(target)) for target in settings.targets}
    cells |= {f"adaptive {power:g}": _run(settings, slow, gossip=Adaptive(power)) for power in settings.powers}
    return cells | {name: _run(settings, gossip=gossip) for name, gossip in phases.items()}


def _run(settings: Settings, graph: str = "complete", period: int = 1, gossip: Gossip | None = None) -> Run:
    return Run(
        task=Task(settings.data),
        model=settings.model,
        topology=Static(Topology(graph, settings.n)),
        algorithm="adapt_then_combine",
        local_steps=period,
        gossip=gossip or Once(),
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        steps=settings.steps,
        measure_every=settings.every,
        metrics=(Consensus(), Accuracy(every=0), Curvature(settings.examples, probes=settings.probes)),
    )


@dataclass(frozen=True)
class Ends:
    """What the runs of each cell came to, a value a seed."""

    settings: Settings
    found: Histories

    def rows(self, cell: str) -> list[History]:
        return histories.select(self.found, cell)

    def values(self, cell: str, name: str) -> Values:
        """A metric's last value."""
        return tuple(float(rows[-1][name]) for rows in self.rows(cell))

    def ratios(self, cell: str, name: str, base: str = C_SGD) -> Values:
        return tuple(a / b for a, b in zip(self.values(cell, name), self.values(base, name), strict=True))

    def points(self, cell: str, base: str = C_SGD, name: str = ACCURACY) -> Values:
        """Test accuracy, or another metric, less the base's: in hundredths."""
        return tuple(100 * (a - b) for a, b in zip(self.values(cell, name), self.values(base, name), strict=True))

    def distances(self, cell: str, third: int | None = None) -> Values:
        """Tr Xi averaged over the steps, or over one third of them; of the cell `critical`, Gamma^2."""
        return tuple(fmean(map(self.distance, _within(rows, third))) for rows in self.rows(cell))

    def excesses(self, cell: str, third: int) -> Values:
        """Tr Xi over Gamma^2, both averaged over a third of the steps."""
        pairs = zip(self.distances(cell, third), self.distances("critical", third), strict=True)
        return tuple(a / b for a, b in pairs)

    def distance(self, row: Mapping[str, Any]) -> float:
        """Tr Xi; or Gamma^2 of C-SGD, where a row has what it is made of."""
        if "trace_xi" in row:
            return float(row["trace_xi"])
        noise, top = row["gradient_variance"] / self.settings.batch_size, row[TOP]
        return float(row["lr"] * noise / (top * self.settings.n) + row["gradient_norm_squared"] / (8 * top**2))

    def correlations(self, name: str) -> Values:
        """Spearman's, of Tr Xi and a metric over the cells whose one knob, a graph's or a share, stands throughout."""
        *graphs, shares, _, _ = _families(self.settings).values()
        cells = [cell for family in (*graphs, shares) for cell in family]
        found = (rank_correlation(x, y) for x, y in self._over_cells(name, cells))
        return tuple(rho for rho in found if rho is not None)

    def explained(self, name: str) -> Values:
        """R^2 of a power law of Tr Xi for a metric over the cells of all knobs, but C-SGD, which has no distance."""
        cells = [cell for family in _families(self.settings).values() for cell in family if cell != C_SGD]
        pairs = self._over_cells(name, cells)
        return tuple(float(np.corrcoef(np.log(x), np.log(y))[0, 1] ** 2) for x, y in pairs)

    def _over_cells(self, name: str, cells: Sequence[str]) -> Iterator[tuple[Values, Values]]:
        """Distances and values in the order of the cells, a pair a seed."""
        distances, values = ([f(cell) for cell in cells] for f in (self.distances, lambda c: self.values(c, name)))
        return zip(zip(*distances, strict=True), zip(*values, strict=True), strict=True)

    def at_equal_loss(self, cell: str) -> Values:
        """tr H over that of a C-SGD which stopped at the same training loss, or at the nearest that there is."""
        of_c_sgd = [f"stopped {STOPPED[0]}", C_SGD, *(f"stopped {part}" for part in STOPPED[1:])]
        logs = np.log([[self.values(c, name) for c in (*of_c_sgd, cell)] for name in (LOSS, TRACE)])
        return tuple(float(np.exp(y[-1] - np.interp(x[-1], x[:-1], y[:-1]))) for x, y in np.moveaxis(logs, 2, 0))


def _within(rows: History, third: int | None) -> list[Mapping[str, Any]]:
    """The rows between start and end, or those of one third of the steps."""
    last = rows[-1]["step"]
    return [row for row in rows if 0 < row["step"] < last and third in (None, 3 * row["step"] // last)]


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    ends = Ends(settings, found)
    claims = [*_claims(ends), *_claims_by_third(ends), *_controls(ends)]
    tables, figures = (_table(ends),), tuple(_figures(ends))
    return Report(claims, tables, figures, settings.departures, _answer(ends, claims), DEFINITIONS)


def _claims(ends: Ends) -> Iterator[Claim]:
    """Of distance throughout the training: Zhu et al.'s, then Kong et al.'s and Wang & Johansson's."""
    settings, ratios = ends.settings, ends.ratios
    loosest, ring, rate = settings.loosest, f"{settings.graphs[-1]} 1", settings.rates[-1]
    least, fading = f"until {settings.targets[0]}", f"adaptive {settings.powers[-1]:g}"
    text = "rank correlation of Tr Ξ, set by graph, period or share, with"
    yield Claim("flatter", "claim", ends.correlations(TRACE), None, -0.9, f"{text} tr H: −0.9 or less")
    text = f"{text} the training loss: 0.7 or more"
    yield Claim("worse optimised", "claim", ends.correlations(LOSS), 0.7, None, text)
    text = f"{loosest} over C-SGD's:"
    yield Claim("flatter, loosest", "claim", ratios(loosest, TRACE), None, 0.8, f"tr H at {text} 0.8 or less")
    text = f"training loss at {text} 1.05 or more"
    yield Claim("worse optimised, loosest", "claim", ratios(loosest, LOSS), 1.05, None, text)
    text = f"tr H at {loosest} over that of a C-SGD stopped at the same training loss: 0.8 or less"
    yield Claim("flatter at equal loss", "claim", ends.at_equal_loss(loosest), None, 0.8, text)
    text = "R² of a power law of Tr Ξ, averaged over the steps, for {} over all cells, timed ones too: 0.9 or more"
    yield Claim("flatness by the distance", "claim", ends.explained(TRACE), 0.9, None, text.format("tr H"))
    yield Claim("loss by the distance", "claim", ends.explained(LOSS), 0.9, None, text.format("the training loss"))
    text = f"test accuracy of {ring} less C-SGD's at lr {settings.learning_rate.lr:g}: above 0 points"
    yield Claim("more accurate", "claim", ends.points(ring), 0.0, None, text)
    text = f"test accuracy of {loosest} less C-SGD's at lr {rate:g}, where it is flatter too: above 0 points"
    points = ends.points(f"lr {rate} {loosest}", f"lr {rate} {C_SGD}")
    yield Claim("flatter, so more accurate", "claim", points, 0.0, None, text)
    text = f"training loss over C-SGD's at {least}, below Γ² in the first third: 1.005 or less"
    yield Claim("below the critical distance", "claim", ratios(least, LOSS), None, 1.005, text)
    text = f"training loss over C-SGD's at {ring}, above Γ² in the first third: 1.005 or more"
    yield Claim("above the critical distance", "claim", ratios(ring, LOSS), 1.005, None, text)
    text = f"tr H of {fading} over that of {ring}: 0.97 or less"
    yield Claim("fading gossip: flatter", "claim", ratios(fading, TRACE, ring), None, 0.97, text)
    text = f"training loss of {fading} over that of {ring}: 1 or less, so that nothing is traded"
    yield Claim("fading gossip: as well optimised", "claim", ratios(fading, LOSS, ring), None, 1.0, text)


def _claims_by_third(ends: Ends) -> Iterator[Claim]:
    """The same trade for distance in one third of the training alone; and Kong et al.'s accuracies."""
    for name in THIRDS:
        text = f"distance in the {name} third alone:"
        sharpness, loss = (ends.ratios(name, metric) for metric in (TRACE, LOSS))
        yield Claim(f"{name}: flatter", "claim", sharpness, None, 0.99, f"{text} tr H over C-SGD's 0.99 or less")
        text = f"{text} training loss over C-SGD's 1.01 or more"
        yield Claim(f"{name}: worse optimised", "claim", loss, 1.01, None, text)
    rate = ends.settings.rates[-1]
    points = ends.points(f"lr {rate} early", f"lr {rate} {C_SGD}")
    text = "distance in the {} third alone, test accuracy less C-SGD's at lr {:g}: {} 0 points"
    yield Claim("early: less accurate", "claim", points, None, 0.0, text.format("early", rate, "below"))
    text = text.format("middle", ends.settings.learning_rate.lr, "above")
    yield Claim("middle: more accurate", "claim", ends.points("middle"), 0.0, None, text)


def _controls(ends: Ends) -> Iterator[Claim]:
    least, ring, loosest = f"until {ends.settings.targets[0]}", f"{ends.settings.graphs[-1]} 1", ends.settings.loosest
    near, ratios = (1 - EXACT, 1 + EXACT), ends.ratios
    text = "adapt_then_combine on the complete graph: tr H within 1 % of that of algorithm centralized"
    yield Claim("complete graph: C-SGD", "control", ratios(C_SGD, TRACE, "centralized"), *near, text)
    text = "combine_then_adapt on the complete graph, Tr Ξ > 0 but no gradient sees it: tr H within 1 % of C-SGD's"
    yield Claim("unseen distance", "control", ratios("unseen", TRACE), *near, text)
    text = "consensus on the complete graph, where gradients see it: tr H over C-SGD's 0.95 or less"
    yield Claim("seen distance", "control", ratios("seen", TRACE), None, 0.95, text)
    quadratic = ratios(f"quadratic {loosest}", LOSS, f"quadratic {C_SGD}")
    text = f"on a quadratic, {loosest}: loss of the mean over C-SGD's within 1e-6 of 1"
    yield Claim("quadratic", "control", quadratic, 1 - 1e-6, 1 + 1e-6, text)
    text = f"C-SGD of {STOPPED[-1]:.0%} of the steps: tr H over that of all steps 1 or more"
    yield Claim("less training", "control", ratios(f"stopped {STOPPED[-1]}", TRACE), 1.0, None, text)
    text = "Tr Ξ over Γ² in the first third:"
    yield Claim("below Γ²", "control", ends.excesses(least, 0), None, 1.0, f"{least}: {text} 1 or less")
    yield Claim("above Γ²", "control", ends.excesses(ring, 0), 2.0, None, f"{ring}: {text} 2 or more")


def _families(settings: Settings) -> dict[str, list[str]]:
    """The cells by the knob that sets their distance."""
    graphs = {f"graphs, gossip every {k}": [f"{graph} {k}" for graph in settings.graphs] for k in settings.periods}
    controlled = [f"until {target}" for target in settings.targets]
    return graphs | {
        "shares": [f"share {share}" for share in settings.shares],
        "until, adaptive": [*controlled, *(f"adaptive {power:g}" for power in settings.powers)],
        "one third": list(THIRDS),
    }


def _table(ends: Ends) -> Table:
    """Every cell at every learning rate that it has."""
    names = {TRACE: "tr H", TOP: "λ_max", LOSS: "train loss", TEST_LOSS: "test loss", ACCURACY: "test accuracy"}
    main, families = ends.settings.learning_rate.lr, _families(ends.settings).values()
    cells = [(main, "", cell) for family in families for cell in family] + [(main, "", "unseen"), (main, "", "seen")]
    cells += [(rate, f"lr {rate} ", cell) for rate in ends.settings.rates for cell in ends.settings.of_rates]
    rows: list[tuple[Any, ...]] = [
        (
            lr,
            cell,
            fmean(ends.distances(lead + cell)),
            *(None if lead else fmean(ends.excesses(cell, third)) for third in range(3)),
            *(fmean(ends.values(lead + cell, name)) for name in names),
            *(histories.cell(ends.ratios(lead + cell, name, lead + C_SGD), 3) for name in (TRACE, LOSS)),
            *(histories.cell(ends.points(lead + cell, lead + C_SGD, name)) for name in (TEST_LOSS, ACCURACY)),
        )
        for lr, lead, cell in cells
    ]
    excess = (f"Tr Ξ / Γ², {third}" for third in THIRDS)
    gained = ("tr H / C-SGD's", "train loss / C-SGD's", "100 (test loss − C-SGD's)", "points gained")
    caption = "Means over seeds, paired with C-SGD at the same lr, with 95 % intervals; unseen and seen are controls."
    return Table("What distance does", ("lr", "cell", "Tr Ξ", *excess, *names.values(), *gained), rows, caption)


def _figures(ends: Ends) -> Iterator[Figure]:
    settings, knobs = ends.settings, _families(ends.settings)
    stopped = {"C-SGD, more or fewer steps": [f"stopped {part}" for part in STOPPED]}

    def points(label: str, cells: list[str], x: Callable[[str], Values]) -> Series:
        """tr H over C-SGD's, at the means of x over seeds."""
        ratios = zip(*(ends.ratios(cell, TRACE) for cell in cells), strict=True)
        return histories.band(label, [fmean(x(cell)) for cell in cells], list(ratios))

    def losses(cell: str) -> Values:
        return ends.ratios(cell, LOSS)

    caption, y = "Each point is a value of a knob; median and range over seeds.", "tr H / C-SGD's"
    title, x = "Sharpness over consensus distance", "Tr Ξ, averaged over the steps"
    series = [points(*knob, ends.distances) for knob in knobs.items()]
    yield curves(title, series, x, y, caption, logarithmic="x", joined=False)
    caption = "C-SGD stands at (1, 1): right of it is worse optimised, below it flatter. Median and range over seeds."
    title, x = "Sharpness and training loss", "training loss / C-SGD's"
    series = [points(*knob, losses) for knob in (knobs | stopped).items()]
    yield curves(title, series, x, y, caption, joined=False)
    least, fading = f"until {settings.targets[0]}", f"adaptive {settings.powers[-1]:g}"
    shown = [f"{settings.graphs[-1]} 1", settings.loosest, least, fading, "middle", "critical"]
    steps = [[row["step"] for row in ends.rows(cell)[0]] for cell in shown]
    found = [[list(map(ends.distance, rows)) for rows in ends.rows(cell)] for cell in shown]
    lines = list(map(histories.band, [*shown[:-1], "Γ²"], steps, found))
    caption = "Median and range over seeds; Γ² is Kong et al.'s critical distance, along C-SGD."
    yield curves("Consensus distance in time", lines, "step", "Tr Ξ", caption, logarithmic="y")


def _answer(ends: Ends, claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers; the first sentences follow from the verdicts."""
    rate, loosest, fading = ends.settings.rates[-1], ends.settings.loosest, f"adaptive {ends.settings.powers[-1]:g}"

    def changed(cell: str) -> str:
        loss, trace = (histories.cell(ends.ratios(cell, name)) for name in (LOSS, TRACE))
        points = histories.cell(ends.points(cell))
        return f"{cell}: training loss {loss} times C-SGD's, tr H {trace} times, {points} points"

    def at_rate(cell: str) -> str:
        return f"{cell} {histories.cell(ends.points(f'lr {rate} {cell}', f'lr {rate} {C_SGD}'))}"

    return (
        f"{_verdict(histories.judged(claims))}\n\n"
        "Points are of test accuracy, more than C-SGD's. Distance throughout, or in one third of the training: "
        f"{'; '.join(map(changed, (loosest, *THIRDS)))}. Gossip that fades: {changed(fading)}. At a learning rate of "
        f"{rate:g}, points: {', '.join(map(at_rate, (*THIRDS, loosest)))}.\n\nOver a C-SGD that stopped at the same "
        f"training loss, tr H with {loosest} is {histories.cell(ends.at_equal_loss(loosest))} times."
    )


def _verdict(judged: Mapping[str, Judged]) -> str:
    def holds(*names: str) -> bool:
        return all(judged[name].verdict == "supported" for name in names)

    if not holds("flatter", "worse optimised"):
        return "No trade of optimisation for flatness was found over all distances."
    traded = [name for name in THIRDS if holds(f"{name}: flatter", f"{name}: worse optimised")]
    says = {what: "says" if holds(f"{what} by the distance") else "does not say" for what in ("flatness", "loss")}
    return (
        "Over a whole training yes: a larger consensus distance makes the mean model flatter and its training loss "
        f"higher. The distance averaged over the training {says['flatness']} how flat, and {says['loss']} how well "
        f"optimised. Distance in one third of it alone is such a trade in: {', '.join(traded) or 'none'}."
    )
