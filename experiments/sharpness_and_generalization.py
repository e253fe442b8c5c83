"""Does a method that minimises sharpness generalise because it does?

Question   Are the flattest solutions, and those that SAM finds, the ones that generalise?
Claim      Wen, Li & Ma 2023 (NeurIPS, arXiv 2307.11007): it depends on the architecture. Three scenarios on y = x1 x2,
           labels without noise: (I) without biases, and with simplified batch normalisation, all flattest solutions
           generalise, and SAM finds them (theorems 3.1, 3.2); (II) with a bias in the first layer some of the flattest
           memorise, test accuracy 0 (theorem 4.1), and SAM's generalise worse than what it does not flatten; (III) with
           simplified layer normalisation such flattest solutions exist too (theorem 5.1), and SAM finds others.
Source     Sections 2 to 5 and table 2; hyper-parameters are the paper's, epochs are fewer (2,000 of 100,000), which a
           reproduction showed to be enough. Numbers where the paper prints none (it has curves) are that reproduction's
           bars: theory's minimum of the trace is 4 sqrt(d + 1), 2 and 8 with biases, sim-LN and sim-BN.
Measured   Tr H = 2 mean |grad f|^2 of the mean of (f - y)^2, exact for ReLUs, and Pr(y f > 0) on 5,000 fresh points;
           each seed has its own training set, start and order. 1-SAM is SAM at one example a step. The paper's explicit
           solutions are built and measured in the same way; in equation 5 we read r = (d + 1)^(1/4), for with the
           (d^2 + 1)^(1/4) that is printed the trace would be 62.
           Ours, the decentralized twin: a ring of 8 replicas, each with its own example a step, with 1-SAM and with
           plain gradients, where only their spread could flatten (Zhu et al. 2023, arXiv 2306.02913); beside C-SGD,
           whose 8 gradients are averaged at one point, and one model, which sees an eighth of the examples.
Controls   1-SAM fits the training set where it does not generalise; gradient descent with weight decay generalises
           without biases too; plain gradients at one example a step, without SAM, do not flatten.
Expect     Pilot, 10 seeds: without biases 1-SAM ends at trace 28.2 and accuracy 0.999; with them at 23.2 and 0.797,
           still rising, where the paper has a fall; gradient descent with weight decay ends at 81.9 and 1.000: flatter
           and worse. But SGD at one example a step is sharper and worse (115 and 0.63): it is weight decay that 1-SAM
           loses to. Sim-LN goes from 0.813 after the first radius to 0.999, at a trace of 2.01; "norms projected to 10"
           is read as onto balls, for scaled to 10 they reach 0.87 too early. Sim-BN: accuracy 1, trace 8.9; its 256
           inputs are few, of which 32 are trained on. On the ring the spread flattens nothing, for none is left once
           the data are fitted (1e-6): plain gradients end at a trace of 143, as C-SGD. With 1-SAM the ring has 0.82 and
           0.83 with and without biases where one model has 0.90 and 0.99: we took that for the ring's work, but C-SGD
           has the same (0.82, 0.83), so that it is 1-SAM averaged over 8 examples which generalises less. The one bar
           that may stay open is that of sim-LN after the first radius, 0.83.
Seeds      Criteria are the reproduction's bars, which it had for each seed and we take for the mean (in the pilot one
           seed of 10 missed an accuracy, one a trace); those of the twin and of plain gradients were set on seeds 0 to
           9 (pilots/sharpness_and_generalization.json). They are judged on seeds from 800 on.
Takes      smoke 6 seconds; standard 7 minutes on 2 cores, 13 where the seeds are doubled; long (10,000 epochs) an hour,
           not timed; paper (100,000 epochs, without its second stages) is for a GPU, not timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from typing import Any

from dsgd import histories
from dsgd.data import Xor
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.histories import Histories
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Consensus, Features, GaussNewton, Snapshot, Split
from dsgd.models import Model, SimBn, TwoLayer
from dsgd.optimizers import ProjectedSgd, Sgd
from dsgd.plots import Series, curves
from dsgd.run import FULL, Run
from dsgd.study import Claim, Figure, Report, Table
from dsgd.tasks import Task, module_for
from topologies import Static, Topology

question = "Are the flattest solutions, and those that SAM finds, the ones that generalise?"

ACCURACY, TRACE, LOSS = "test_accuracy_mean_model", "gauss_newton_trace", "train_loss_mean_model"
NAMES = {
    "none-sam": "no bias, 1-SAM",
    "none-decay": "no bias, GD with weight decay",
    "bias-sam": "bias, 1-SAM",
    "bias-decay": "bias, GD with weight decay",
    "ln-sam": "sim-LN, 1-SAM",
    "bn-sam": "sim-BN, 1-SAM",
}
TWINS = {
    "one-bias-sam": "one model, bias, 1-SAM",
    "one-bias-sgd": "one model, bias, SGD",
    "one-none-sam": "one model, no bias, 1-SAM",
    "ring-bias-sam": "ring, bias, 1-SAM",
    "ring-bias-sgd": "ring, bias, SGD",
    "ring-none-sam": "ring, no bias, 1-SAM",
    "ring-none-sgd": "ring, no bias, SGD",
    "central-bias-sam": "C-SGD, bias, 1-SAM",
    "central-bias-sgd": "C-SGD, bias, SGD",
    "central-none-sam": "C-SGD, no bias, 1-SAM",
}
SYMBOLS = {
    "Tr H": "trace of the Hessian of the training loss, the mean of (f - y)^2, at the model or the replicas' mean",
    "accuracy": "the share of 5,000 fresh points, uniform on {-1, 1}^d, with y f > 0",
    "d, n": "dimension of the inputs, and training examples",
    "1-SAM": "SAM with one example a step, along its normalised gradient",
    "sim-LN, sim-BN": "activations over their length in an example, or each over its root mean square in the data",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; an epoch is n steps of one example. `ln_epochs` are those of each of three radii."""

    seeds: int = 10
    seed: int = 800
    dimension: int = 30
    train_size: int = 100
    width: int = 500
    lr: float = 0.01
    rho: float = 0.05
    epochs: int = 2000
    decay_steps: int = 10_000
    ln_epochs: int = 500
    bn_data: tuple[int, int] = (8, 32)  # dimension and examples, condition 1's
    bn_width: int = 40
    bn_epochs: int = 4000
    replicas: int = 8
    ring_width: int = 100
    ring_epochs: int = 1000
    looks: int = 10  # measurements on the way
    departures: tuple[str, ...] = ()


SMALL = Settings(2, 0, 30, 40, 16, epochs=8, decay_steps=60, ln_epochs=4, bn_data=(4, 12), bn_width=8, bn_epochs=10)
presets = {
    "smoke": replace(SMALL, replicas=4, ring_width=16, ring_epochs=4, looks=2),
    "standard": Settings(),
    "long": Settings(5, epochs=10_000, bn_epochs=8000, ring_epochs=2000),
    "paper": Settings(
        seeds=3,
        epochs=100_000,
        decay_steps=100_000,
        bn_data=(30, 116),
        bn_width=500,
        bn_epochs=100_000,
        ring_width=500,
        ring_epochs=10_000,
        departures=(
            "Of two or three stages with other learning rates and radii the first is taken, but for sim-LN, which has "
            "all three; with sim-BN 116 examples of condition 1, where the paper has 100 at random.",
            "The start, of which the paper says nothing, is uniform within 1 / sqrt(inputs of the layer).",
            "The decentralized twin is ours.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, which ends with the seed."""
    return {
        f"{name} {seed}": replace(run, seed=seed, task=Task(replace(run.task.data, split=seed)))  # type: ignore[type-var]
        for name, run in _kinds(settings).items()
        for seed in _seeds(settings)
    }


def _seeds(settings: Settings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


def _kinds(settings: Settings) -> dict[str, Run]:
    """The runs by name, all with one seed."""
    s, n = settings, settings.train_size
    none, bias = (TwoLayer(s.width, bias=bias, head_bias=False) for bias in (False, True))
    sam, decay = Sam(s.rho), Sgd(weight_decay=0.05)
    stage = s.ln_epochs * n
    found = {
        "none-sam": _run(s, none, sam, s.epochs * n),
        "bias-sam": _run(s, bias, sam, s.epochs * n),
        "none-decay": replace(_run(s, none, Plain(), s.decay_steps), optimizer=decay, batch_size=FULL),
        "bias-decay": replace(_run(s, bias, Plain(), s.decay_steps), optimizer=decay, batch_size=FULL),
        "ln-sam": replace(
            _run(s, replace(bias, norm="sim_ln"), Sam(0.1, (stage, 2 * stage), (0.5, 1.0)), 3 * stage, stages=3),
            optimizer=ProjectedSgd(10.0, ("1.weight", "1.bias")),
        ),
        "bn-sam": _normalised_by_data(s),
    }
    return found | {name: _twin(s, *name.split("-")) for name in TWINS}


def _twin(settings: Settings, place: str, layers: str, how: str) -> Run:
    """One model, or so many replicas on a ring or, central, with their gradients averaged every step: C-SGD."""
    model = TwoLayer(settings.ring_width, bias=layers == "bias", head_bias=False)
    gradient = Sam(settings.rho) if how == "sam" else Plain()
    one = _run(settings, model, gradient, settings.ring_epochs * settings.train_size)
    if place == "one":
        return one
    topology, metrics = Static(Topology("ring", settings.replicas)), (*one.metrics, Consensus())
    return replace(
        one, topology=topology, metrics=metrics, algorithm="centralized" if place == "central" else "consensus"
    )


def _run(settings: Settings, model: Model, gradient: Gradient, steps: int, stages: int = 1) -> Run:
    return Run(
        task=Task(Xor(settings.dimension, settings.train_size)),
        model=model,
        topology=Static(Topology("ring", 1)),
        gradient=gradient,
        learning_rate=Constant(settings.lr),
        batch_size=1,
        steps=steps,
        measure_every=steps // (stages * -(-settings.looks // stages)),
        metrics=(Accuracy(), GaussNewton(every=None)),
    )


def _normalised_by_data(settings: Settings) -> Run:
    dimension, size = settings.bn_data
    run = _run(settings, SimBn(settings.bn_width), Sam(0.1), settings.bn_epochs * size)
    data, metrics = Xor(dimension, size, crossed=True), (*run.metrics, Features())
    return replace(run, task=Task(data), learning_rate=Constant(0.005), metrics=metrics, dtype="float64")


@dataclass(frozen=True)
class Explicit:
    """One of the paper's solutions: the trace and the accuracy that theory gives it."""

    name: str
    memorises: bool
    norm: str

    def theory(self, d: int) -> tuple[float, float]:
        return (4 * sqrt(d + 1) if self.norm == "none" else 2.0), float(not self.memorises)

    def measured(self, data: Xor) -> tuple[float, float]:
        """The trace and the accuracy on test points, by the metrics that judge the runs."""
        import torch

        from dsgd.objectives import network
        from dsgd.trees import Params

        loaded = data.load()
        parts = (loaded.train, loaded.test)
        train, test = (Split(torch.from_numpy(part.x).double(), torch.from_numpy(part.y)) for part in parts)
        weight, bias, head = self._layers(train.x.unique(dim=0))
        module = module_for(TwoLayer(len(weight), head_bias=False, norm=self.norm), loaded).double()
        net = network(module, loaded.criterion)
        row = Params(torch.cat([weight.flatten(), bias, head])[None], net.layout)
        snapshot = Snapshot(0, row, net, train, test)
        return GaussNewton()(snapshot)[TRACE], Accuracy()(snapshot)[ACCURACY]  # type: ignore[return-value]  # numbers

    def _layers(self, x: Any) -> tuple[Any, Any, Any]:
        """W1, b1 and W2: theorem 4.1's, of a unit for each example, or equation 5's, of one for each sign of x1, x2."""
        d = x.shape[1]
        r = (d + 1) ** 0.25
        if self.memorises:
            weight, bias = r * x, r * (1 - d)  # epsilon = 1 / sqrt(d)
        else:
            x = x[:4].clone()
            x[:, 0], x[:, 1], x[:, 2:] = x.new_tensor([1, 1, -1, -1]), x.new_tensor([1, -1, 1, -1]), 0
            weight, bias = r * x, -r
        return weight, x.new_full((len(x),), bias), x[:, 0] * x[:, 1] / (r if self.norm == "none" else 1)


EXPLICIT = tuple(
    Explicit(f"{layers}, {'memorising' if memorises else 'generalising'}", memorises, norm)
    for layers, norm in (("bias", "none"), ("sim-LN", "sim_ln"))
    for memorises in (True, False)
)


Solutions = dict[str, list[tuple[float, float]]]  # trace and accuracy, one pair a seed


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the tables and figures behind them."""
    seeds, data = _seeds(settings), Xor(settings.dimension, settings.train_size)
    solutions = {each.name: [each.measured(replace(data, split=seed)) for seed in seeds] for each in EXPLICIT}
    claims = [*_explicit_claims(settings, solutions), *_claims(settings, found)]
    claims += [*_twin_claims(found), *_controls(settings, found)]
    tables = (_explicit_table(settings, solutions), _table(settings, found), _twin_table(settings, found))
    figures = tuple(_figures(settings, found))
    return Report(claims, tables, figures, settings.departures, _answer(settings, found), SYMBOLS)


def _ends(found: Histories, name: str, metric: str) -> list[float]:
    """The last value of each seed."""
    return [rows[-1][metric] for rows in histories.select(found, name)]


def _less(found: Histories, metric: str, one: str, other: str) -> list[float]:
    return [a - b for a, b in zip(_ends(found, one, metric), _ends(found, other, metric), strict=True)]


def _over(found: Histories, metric: str, one: str, other: str) -> list[float]:
    return [a / b for a, b in zip(_ends(found, one, metric), _ends(found, other, metric), strict=True)]


def _claim(
    name: str, values: list[float], low: float | None, high: float | None, words: str, control: bool = False
) -> Claim:
    return Claim(name, "control" if control else "claim", tuple(values), low, high, words)


def _explicit_claims(settings: Settings, solutions: Solutions) -> Iterator[Claim]:
    for place, what in enumerate(("Tr H", "accuracy")):
        theory = {each.name: each.theory(settings.dimension)[place] for each in EXPLICIT}
        by_seed = zip(*(solutions[name] for name in theory), strict=True)
        worst = [max(abs(f[place] - one) for f, one in zip(seed, theory.values(), strict=True)) for seed in by_seed]
        shown = ", ".join(f"{value:.6g}" for value in theory.values())
        words = f"{what} of the four explicit solutions is {shown}, the worst off by <= 0.001"
        yield _claim(f"explicit solutions: {what}", worst, None, 1e-3, words)


def _least(settings: Settings) -> float:
    """Theory's minimum of the trace with biases."""
    return 4 * sqrt(settings.dimension + 1)


def _claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    least, tolerance = _least(settings), 0.06 if settings.epochs < 10_000 else 0.03
    yield _claim("no bias, 1-SAM: accuracy", _ends(found, "none-sam", ACCURACY), 0.99, None, "accuracy >= 0.99")
    yield _claim("no bias, 1-SAM: Tr H", _ends(found, "none-sam", TRACE), None, 32, "Tr H <= 32")
    yield _claim("bias, 1-SAM: accuracy", _ends(found, "bias-sam", ACCURACY), None, 0.85, "accuracy <= 0.85")
    away = [trace / least - 1 for trace in _ends(found, "bias-sam", TRACE)]
    words = f"Tr H over its minimum 4 sqrt(d + 1) = {least:.4g}, less 1, is 0 +- {tolerance:g}"
    yield _claim("bias, 1-SAM: Tr H", away, -tolerance, tolerance, words)
    yield _claim("bias, decay: accuracy", _ends(found, "bias-decay", ACCURACY), 0.93, None, "accuracy >= 0.93")
    words = "Tr H of GD with weight decay over that of 1-SAM >= 3"
    yield _claim("bias: decay is sharper", _over(found, TRACE, "bias-decay", "bias-sam"), 3, None, words)
    words = "accuracy of 1-SAM - accuracy of GD with weight decay <= 0, though it is flatter"
    yield _claim("bias: flatter and worse", _less(found, ACCURACY, "bias-sam", "bias-decay"), None, 0, words)
    yield _claim("sim-LN, 1-SAM: accuracy", _ends(found, "ln-sam", ACCURACY), 0.93, None, "accuracy >= 0.93")
    words = f"accuracy after the {settings.ln_epochs} epochs with rho 0.1 <= 0.83"
    yield _claim("sim-LN, 1-SAM: accuracy before", _early(settings, found), None, 0.83, words)
    yield _claim("sim-LN, 1-SAM: Tr H", _ends(found, "ln-sam", TRACE), 2, 2.1, "Tr H is in [2, 2.1], the minimum 2")
    words = "accuracy with sim-LN - accuracy with biases >= 0, both flattest"
    yield _claim("sim-LN above bias, 1-SAM", _less(found, ACCURACY, "ln-sam", "bias-sam"), 0, None, words)
    yield _claim("sim-BN, 1-SAM: accuracy", _ends(found, "bn-sam", ACCURACY), 0.999, None, "accuracy >= 0.999")
    words = "|gamma * W2|_1 is in [1.95, 2.1], the minimum 2"
    yield _claim("sim-BN, 1-SAM: head", _ends(found, "bn-sam", "head_l1"), 1.95, 2.1, words)
    words = "Tr H is in [8, 9.5], the minimum 8"
    yield _claim("sim-BN, 1-SAM: Tr H", _ends(found, "bn-sam", TRACE), 8, 9.5, words)


def _early(settings: Settings, found: Histories) -> list[float]:
    stage = settings.ln_epochs * settings.train_size
    before = ([row for row in rows if row["step"] <= stage] for rows in histories.select(found, "ln-sam"))
    return [rows[-1][ACCURACY] for rows in before]


def _twin_claims(found: Histories) -> Iterator[Claim]:
    ratio = _over(found, TRACE, "ring-bias-sgd", "central-bias-sgd")
    words = "Tr H at the mean of the ring over that of C-SGD, both with plain gradients >= 0.9"
    yield _claim("ring, bias: spread does not flatten", ratio, 0.9, None, words)
    words = "accuracy of the mean with 1-SAM - accuracy with plain gradients >= 0"
    less = _less(found, ACCURACY, "ring-bias-sam", "ring-bias-sgd")
    yield _claim("ring, bias: 1-SAM is better than SGD", less, 0, None, words)
    for layers, says in (("bias", "bias"), ("none", "no bias")):
        words = "accuracy of C-SGD with 1-SAM - that of one model with one example a step <= 0"
        less = _less(found, ACCURACY, f"central-{layers}-sam", f"one-{layers}-sam")
        yield _claim(f"{says}: 1-SAM averaged over examples is behind", less, None, 0, words)
        words = "accuracy of the ring's mean with 1-SAM - that of C-SGD with 1-SAM: 0 +- 0.05"
        less = _less(found, ACCURACY, f"ring-{layers}-sam", f"central-{layers}-sam")
        yield _claim(f"ring, {says}, 1-SAM: as accurate as C-SGD", less, -0.05, 0.05, words)


def _controls(settings: Settings, found: Histories) -> Iterator[Claim]:
    words = "mean training loss <= 0.01, where outputs of 0 have 1"
    for name in ("none-sam", "bias-sam", "ln-sam"):
        yield _claim(f"{NAMES[name]}: fits", _ends(found, name, LOSS), None, 0.01, words, True)
    words = "accuracy >= 0.99"
    yield _claim("no bias, decay: accuracy", _ends(found, "none-decay", ACCURACY), 0.99, None, words, True)
    ratio = _over(found, TRACE, "one-bias-sgd", "one-bias-sam")
    words = "Tr H of SGD at one example a step over that of 1-SAM >= 2"
    yield _claim("one model, bias: plain gradients do not flatten", ratio, 2, None, words, True)


def _explicit_table(settings: Settings, solutions: Solutions) -> Table:
    columns = ("solution", "Tr H", "theory", "accuracy", "theory", "seeds")
    rows = []
    for each in EXPLICIT:
        (trace, accuracy), found = each.theory(settings.dimension), solutions[each.name]
        measured = [median(values) for values in zip(*found, strict=True)]
        rows.append((each.name, measured[0], trace, measured[1], accuracy, len(found)))
    return Table(
        "The paper's explicit solutions", columns, rows, "Medians over training sets; both of each pair are flattest."
    )


def _table(settings: Settings, found: Histories) -> Table:
    least = {"bias-sam": _least(settings), "ln-sam": 2.0, "bn-sam": 8.0}
    rows = [(words, *_row(found, name), least.get(name)) for name, words in NAMES.items()]
    columns = ("runs", "steps", "Tr H", "accuracy", "least", "greatest", "training loss", "minimum of Tr H")
    return Table("What is found", columns, rows, "Medians over seeds; least and greatest accuracy of a seed.")


def _twin_table(settings: Settings, found: Histories) -> Table:
    def spread(name: str) -> list[float | None]:
        return histories.medians([rows[-1:] for rows in histories.select(found, name)], "consensus_distance")

    rows = [(words, *_row(found, name), *spread(name)) for name, words in TWINS.items()]
    columns = ("runs", "steps", "Tr H", "accuracy", "least", "greatest", "training loss", "consensus distance")
    caption = f"Width {settings.ring_width}, {settings.replicas} replicas; at their mean. Medians over seeds."
    return Table("Decentralized", columns, rows, caption)


def _row(found: Histories, name: str) -> tuple[float, ...]:
    """Steps, trace, accuracy with its range, and training loss at the end."""
    accuracies = _ends(found, name, ACCURACY)
    middle = (median(_ends(found, name, metric)) for metric in ("step", TRACE))
    return (*middle, median(accuracies), min(accuracies), max(accuracies), median(_ends(found, name, LOSS)))


def _figures(settings: Settings, found: Histories) -> Iterator[Figure]:
    def bands(names: Mapping[str, str], metric: str) -> list[Series]:
        return [_band(words, histories.select(found, name), metric) for name, words in names.items()]

    caption = "Medians over seeds, least and greatest; x is the share of the run, whose steps are in the table."
    for what, names in (("", NAMES), (", decentralized", TWINS)):
        yield curves(f"Accuracy{what}", bands(names, ACCURACY), "share of the run", "accuracy", caption)
        title, label = f"Sharpness{what}", "Tr H"
        yield curves(title, bands(names, TRACE), "share of the run", label, caption, logarithmic="y")


def _band(label: str, runs: list[histories.History], metric: str) -> Series:
    shares = [row["step"] / runs[0][-1]["step"] for row in runs[0]]
    return histories.band(label, shares, [[row[metric] for row in rows] for rows in runs])


def _answer(settings: Settings, found: Histories) -> str:
    """What was found, in words and measured numbers."""

    def said(name: str) -> str:
        trace, accuracy = (median(_ends(found, name, metric)) for metric in (TRACE, ACCURACY))
        return f"Tr H {trace:.4g} and accuracy {accuracy:.3f}"

    paragraphs = (
        f"With biases 1-SAM ends at {said('bias-sam')} (the least trace is {_least(settings):.4g}), gradient descent "
        f"with weight decay at {said('bias-decay')}. Without biases 1-SAM ends at {said('none-sam')}, with sim-LN at "
        f"{said('ln-sam')}, with sim-BN, on its own data, at {said('bn-sam')}. The explicit solutions that memorise, "
        "with biases and with sim-LN, have the trace of those that generalise, the least: it does not say which.",
        f"On a ring, with biases, the mean of the replicas ends at {said('ring-bias-sam')} with 1-SAM, C-SGD at "
        f"{said('central-bias-sam')}, one model at {said('one-bias-sam')}; without biases at "
        f"{said('ring-none-sam')}, {said('central-none-sam')} and {said('one-none-sam')}. With plain gradients, with "
        f"biases, at {said('ring-bias-sgd')}, {said('central-bias-sgd')} and {said('one-bias-sgd')}: the ring's spread "
        f"is {median(_ends(found, 'ring-bias-sgd', 'consensus_distance')):.1e} by then.",
    )
    return "\n\n".join(paragraphs)
