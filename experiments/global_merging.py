"""Does one averaging at the end make up for gossip that was too rare?

Question   Replicas gossip rarely, or never, and at the end all are averaged once. Is their mean as good as a model
           trained centrally, however poor the replicas are?
Claim      Zhu et al. 2026: a single global merging lifts poor local models, under strong heterogeneity too, to the
           accuracy of parallel SGD, and the merged model is ahead all through training: L(mean) <= mean_j L(w_j), by
           tr(HΞ)/2 up to third order. "Matches parallel SGD" was disputed in its reviews; here it is a test of
           equivalence with a margin of two points of accuracy, on shared data of 0.3.
Source     "On the surprising effectiveness of a single global merging in decentralized learning", arXiv 2507.06542.
Measured   16 replicas, adapt-then-combine, on shared data and on shares by Dirichlet(0.1). All replicas are paired at
           random every 7 steps ("often"), every 47 ("rare", 31 in all; the paper's replicas take 300 rounds of 100
           steps, and exchange in a fifth of the rounds), or "never". What merging would give is measured ten times on
           the way, somewhere between two exchanges, without merging. Centralized SGD takes the replicas' mean gradient.
Controls   Replicas that started "apart", each from its own draw, and never spoke must merge badly. The mean local model
           must miss the centralized one by more than the margin, and so must the merging of replicas with different
           data that never spoke. Where these are, far apart, tr(HΞ)/2 must miss the gain in loss.
Expect     On shared data replicas that never spoke merge to the accuracy of centralized SGD, 0.963, from 0.956. On
           skewed data merging lifts much more, but to what depends on how often they spoke: often to 0.945, a point
           behind centralized SGD, within the margin; rare from 0.67 to 0.89, seven points behind, so the claim is
           refuted there; never to 0.53. The merged model is ahead at every measurement, on shared data by 1.02 times
           tr(HΞ)/2, on skewed by 1.19 times (refuted) and 1.5 times where replicas never spoke. On its own share a
           replica is ahead of it. Replicas that started apart lose 13 points by merging: that bar was set at 5 when the
           pilot had missed one of 20.
Seeds      Criteria were set on seeds 0 to 19 (pilots/global_merging.json) and are judged on seeds from 800 on.
Takes      smoke 5 seconds; standard one minute on 2 cores; long, on Fashion-MNIST, an hour by parts of it; paper is for
           a GPU and was never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, Dirichlet, FashionMnist, Iid
from dsgd.histories import Histories, History, Sample, one_a_seed, seeds_of
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Consensus, Curvature, Merging
from dsgd.models import Mlp, Model, ResNet18
from dsgd.optimizers import Sgd
from dsgd.plots import Series, curves
from dsgd.run import Run
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task
from topologies import Periodic, RandomMatching, Schedule, Topology

question = "Does one global averaging lift poor local models to the accuracy of centralized training?"

SHARED, SKEWED = "shared", "skewed"
OFTEN, RARE, NEVER, APART, CENTRAL = "often", "rare", "never", "apart", "centralized"
DATA, GOSSIP = (SHARED, SKEWED), (OFTEN, RARE, NEVER)
TRAINED = (*((data, gossip) for data in DATA for gossip in (*GOSSIP, CENTRAL)), (SHARED, APART))
MARGINS = {SHARED: 0.003, SKEWED: 0.02}  # of test accuracy, within which two models are equivalent
LOCAL, MERGED = "test_accuracy_replicas_mean", "test_accuracy_mean_model"
PREDICTION, GAIN = "half_trace_h_xi", "merging_gain_loss_train"  # on the same training examples
DEFINITIONS = {
    "w_j, mean": "replica j, and the mean of all replicas: the merged model",
    "gain in accuracy": "accuracy(mean) - mean_j accuracy(w_j) on the test set, at the end",
    "gain in loss": "mean_j L(w_j) - L(mean)",
    "Xi": "covariance of the replicas around their mean; Tr Xi is the squared consensus distance",
    "H": "Hessian of the training loss at the mean",
    "own share": "the training examples of one replica alone",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `often` and `rare` are the steps from one exchange to the next.

    Neither divides the steps between measurements, which so fall anywhere between two exchanges, not right behind one.
    """

    seeds: int = 20
    seed: int = 800
    data: DataSource = field(default_factory=Digits)
    model: Model = field(default_factory=lambda: Mlp((32,), "tanh"))
    n: int = 16
    lr: float = 0.1
    weight_decay: float = 0.0
    batch_size: int = 8
    steps: int = 1500
    often: int = 7
    rare: int = 47
    examples: int = 256
    measurements: int = 10
    departures: tuple[str, ...] = ()


presets = {
    "smoke": Settings(seeds=1, seed=0, n=4, steps=60, rare=19, examples=32, measurements=2),
    "standard": Settings(),
    "long": Settings(seeds=5, data=FashionMnist(), model=Mlp((64,), "tanh"), batch_size=16, steps=3000, rare=97),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(activation="gelu"),
        lr=0.01,
        weight_decay=5e-4,
        batch_size=128,
        steps=30_000,
        often=97,
        rare=499,
        departures=(
            "CIFAR-10, and GroupNorm in the ResNet-18; Zhu et al. 2026 take Tiny ImageNet, and BatchNorm.",
            "All replicas exchange in pairs every 499 steps; theirs do with probability 0.2 in every round of 100.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, DATA GOSSIP SEED."""
    return {
        f"{data} {gossip} {seed}": _training(settings, data, gossip, seed)
        for data, gossip in TRAINED
        for seed in seeds_of(settings)
    }


def _training(settings: Settings, data: str, gossip: str, seed: int) -> Run:
    merging = (Merging(settings.examples), Curvature(settings.examples, probes=0, every=None))
    return Run(
        task=Task(settings.data, Iid() if data == SHARED else Dirichlet(0.1, settings.batch_size)),
        model=settings.model,
        topology=_schedule(settings, gossip, seed),
        algorithm="centralized" if gossip == CENTRAL else "adapt_then_combine",
        optimizer=Sgd(weight_decay=settings.weight_decay),
        learning_rate=Constant(settings.lr),
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=seed,
        measure_every=settings.steps // settings.measurements,
        starts="own" if gossip == APART else "same",
        metrics=(Consensus(), Accuracy(), *(merging if gossip in GOSSIP else ())),
    )


def _schedule(settings: Settings, gossip: str, seed: int) -> Schedule:
    """Random pairs of all replicas every so many steps; for centralized training, which uses no graph, the last."""
    pairs = RandomMatching(Topology("complete", settings.n), seed)
    every = {OFTEN: settings.often, RARE: settings.rare}.get(gossip, settings.steps + 1)
    return Periodic(pairs, every)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    claims = [*_lifts(found), *_equivalences(found), *_losses(found), *_controls(found)]
    return Report(
        claims, (_table(found),), tuple(_figures(found)), settings.departures, _answer(found, claims), DEFINITIONS
    )


def _ends(found: Histories, data: str, gossip: str, of: Callable[[History, History], float | None]) -> Sample:
    """One value a seed, of a run and of the centralized one on the same data."""
    seeds = histories.seeds(found, f"{data} {gossip}")
    return one_a_seed([of(found[f"{data} {gossip} {seed}"], found[f"{data} {CENTRAL} {seed}"]) for seed in seeds])


def _lift(rows: History, _: History) -> float:
    return rows[-1][MERGED] - rows[-1][LOCAL]


def _behind(rows: History, central: History) -> float:
    """The merged model's accuracy less the centralized one's."""
    return rows[-1][MERGED] - central[-1][MERGED]


def _local_behind(rows: History, central: History) -> float:
    return rows[-1][LOCAL] - central[-1][MERGED]


def _ahead(rows: History, _: History) -> float:
    """The share of the measurements on the way at which merging would lower the test loss."""
    return fmean(row["merging_gain_loss_test"] > 0 for row in rows[1:])


def _predicted(rows: History, _: History) -> float | None:
    """The gain in training loss over tr(H Xi) / 2, the mean of the measurements on the way."""
    return histories.mean(row[GAIN] / row[PREDICTION] for row in rows[1:] if row[PREDICTION])


def _lifts(found: Histories) -> Iterator[Claim]:
    for data, gossip, least in ((SHARED, RARE, 0.0), (SKEWED, OFTEN, 0.0), (SKEWED, RARE, 0.03), (SKEWED, NEVER, 0.03)):
        criterion = f"gain in accuracy {'> 0' if not least else f'>= {least:g}'}"
        yield _ends(found, data, gossip, _lift).claim(
            f"{data}, {gossip}: merging lifts", "claim", least, None, criterion
        )


def _equivalences(found: Histories) -> Iterator[Claim]:
    for data, gossip in ((SHARED, OFTEN), (SHARED, NEVER), (SKEWED, OFTEN), (SKEWED, RARE)):
        margin = MARGINS[data]
        criterion = f"accuracy of the merged model less that of centralized SGD is 0 +- {margin:g}"
        ends = _ends(found, data, gossip, _behind)
        yield ends.claim(f"{data}, {gossip}: as centralized", "claim", -margin, margin, criterion)


def _losses(found: Histories) -> Iterator[Claim]:
    for data, gossip in ((SHARED, OFTEN), (SHARED, NEVER), (SKEWED, OFTEN), (SKEWED, RARE), (SKEWED, NEVER)):
        criterion = "share of the measurements on the way with a gain in test loss > 0, at least 0.95"
        ahead = _ends(found, data, gossip, _ahead)
        yield ahead.claim(f"{data}, {gossip}: ahead all the way", "claim", 0.95, None, criterion)
    for data, gossip in ((SHARED, OFTEN), (SHARED, NEVER), (SKEWED, OFTEN)):
        criterion = "gain in training loss over tr(H Xi) / 2, the mean on the way, is 1 +- 0.15"
        ratios = _ends(found, data, gossip, _predicted)
        yield ratios.claim(f"{data}, {gossip}: the gain in loss", "claim", 0.85, 1.15, criterion)
    own = _ends(found, SKEWED, RARE, lambda rows, _: rows[-1]["merging_gain_loss_shards"])
    criterion = "on its own share a replica has the lower loss: the gain in loss there is < 0"
    yield own.claim(f"{SKEWED}, {RARE}: on its own share", "claim", None, 0.0, criterion)


def _controls(found: Histories) -> Iterator[Claim]:
    apart = _ends(found, SHARED, APART, _lift)
    yield apart.claim(f"{SHARED}, {APART}: merging harms", "control", None, -0.05, "gain in accuracy <= -0.05")
    for data, gossip in ((SHARED, NEVER), (SKEWED, RARE)):
        criterion = f"mean accuracy of the replicas less that of centralized SGD is < -{MARGINS[data]:g}"
        local = _ends(found, data, gossip, _local_behind)
        yield local.claim(f"{data}, {gossip}: the local models", "control", None, -MARGINS[data], criterion)
    criterion = "accuracy of the merged model less that of centralized SGD is < -0.1"
    never = _ends(found, SKEWED, NEVER, _behind)
    yield never.claim(f"{SKEWED}, {NEVER}: merging alone", "control", None, -0.1, criterion)
    criterion = "gain in training loss over tr(H Xi) / 2, the mean on the way, is > 1.15: no longer small deviations"
    ratios = _ends(found, SKEWED, NEVER, _predicted)
    yield ratios.claim(f"{SKEWED}, {NEVER}: the gain in loss", "control", 1.15, None, criterion)


def _table(found: Histories) -> Table:
    names = (LOCAL, MERGED, "merging_gain_loss_test", GAIN, PREDICTION, "merging_gain_loss_shards", "trace_xi")
    rows = []
    for data, gossip in TRAINED:
        ends = [rows[-1] for rows in histories.select(found, f"{data} {gossip}")]
        rows.append((data, gossip, *(histories.mean(row.get(name) for row in ends) for name in names)))
    columns = ("data", "gossip", "local accuracy", "merged accuracy", "gain in test loss", "gain in training loss")
    caption = "Means over seeds at the end; accuracies on the test set."
    return Table("Before and after merging", (*columns, "tr(HΞ)/2", "gain on own share", "Tr Ξ"), rows, caption)


def _figures(found: Histories) -> Iterator[Figure]:
    def curve(label: str, data: str, gossip: str, name: str) -> Series:
        runs = histories.select(found, f"{data} {gossip}")
        return histories.band(label, [row["step"] for row in runs[0]], [[row[name] for row in rows] for rows in runs])

    for data in DATA:
        pairs = [
            (gossip, name, words) for gossip in (RARE, NEVER) for name, words in ((LOCAL, "local"), (MERGED, "merged"))
        ]
        series = [curve(f"{gossip}, {words}", data, gossip, name) for gossip, name, words in pairs]
        yield curves(
            f"On the way, {data} data",
            [*series, curve(CENTRAL, data, CENTRAL, MERGED)],
            "step",
            "test accuracy",
            "Median and range over seeds; merged: what merging would give at that step.",
        )
    yield curves(
        "The gain in loss and linear theory",
        [_cloud(found, data, gossip) for data in DATA for gossip in GOSSIP],
        "tr(HΞ)/2",
        "gain in training loss",
        "Each measurement on the way of each run.",
        logarithmic="xy",
        joined=False,
        guides=((1.0, "equal"),),
    )


def _cloud(found: Histories, data: str, gossip: str) -> Series:
    rows = [row for rows in histories.select(found, f"{data} {gossip}") for row in rows[1:]]
    return Series(f"{data}, {gossip}", [row[PREDICTION] for row in rows], [row[GAIN] for row in rows])


def _answer(found: Histories, claims: Sequence[Claim]) -> str:
    """What was found, in words and measured numbers, and what did not come out as claimed."""

    def mean(data: str, gossip: str, name: str) -> str:
        return f"{fmean(rows[-1][name] for rows in histories.select(found, f'{data} {gossip}')):.3f}"

    lifted = ", ".join(f"{gossip} {mean(SKEWED, gossip, LOCAL)} to {mean(SKEWED, gossip, MERGED)}" for gossip in GOSSIP)
    others = histories.not_supported(histories.judged(claims))
    return (
        f"On shared data replicas that never spoke are merged from an accuracy of {mean(SHARED, NEVER, LOCAL)} to "
        f"{mean(SHARED, NEVER, MERGED)}; centralized SGD has {mean(SHARED, CENTRAL, MERGED)}. On skewed data, by how "
        f"often they speak: {lifted}; centralized {mean(SKEWED, CENTRAL, MERGED)}.\n\n"
        f"Not as stated: {others or 'nothing'}."
    )
