"""Does renormalised SAM stand larger learning rates, and does it leave saddles that trap SAM?

Question   SSAM gives SAM's step the length of the plain gradient. Does that widen the range of stable learning rates,
           and free SAM from saddle points? In D-SGD, too, where it is every replica's local step?
Claim      Tan et al. 2025 (JMLR 26, 24-0065, arXiv 2401.07250): SAM gets stuck at saddle points more than SGD does and
           beats it in a limited range of learning rates only; SSAM leaves the saddles and widens the range.
Source     The authors' code; the paper's constants and tables are not at hand. The thresholds 2 / lambda and
           2 / (lambda (1 + rho lambda)) and when a saddle traps are derived: H g becomes (1 + rho H) H g under USAM,
           and at curvature -kappa the step changes its sign where rho kappa > 1. "-U" is the ascent that is not
           normalised, the paper's.
Measured   The largest stable learning rate on quadratics, and the steps to leave f = x^2 - y^2 from (-3, -0.01) at lr
           0.01, by dsgd's own gradients in float64; test accuracy of a ReLU network over learning rates, diverged
           runs counted as chance; accuracy where 40 % of the training labels are drawn anew. The decentralised twin:
           the same total batch on a ring of 8, mean model and worst replica; a cosine to 0 lets replicas come together.
Controls   |u| = |g|; GD's threshold; no saddle with rho kappa > 1, none inside SAM's ball, is left; at the least
           learning rate all methods train, at the largest SGD breaks down; SGD learns the noise by heart.
Pilot      PILOT
Expect     EXPECT
Seeds      Criteria were set on seeds 0 to 7 (pilots/stable_sam.json) and are judged on seeds from 800 on. All seeds of
           the sweep share one split, so that they train as one; under label noise each has a split and a draw of its own.
Takes      smoke 3 seconds; standard 4 minutes on 2 cores; long (Fashion-MNIST) an hour; paper is for a GPU, not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from math import log
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from dsgd import histories
from dsgd.data import Cifar10, DataSource, Digits, FashionMnist, LabelNoise
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.histories import Histories
from dsgd.learning_rates import Cosine
from dsgd.metrics import Accuracy, Consensus
from dsgd.models import Mlp, Model, ResNet18
from dsgd.optimizers import Sgd
from dsgd.perturbations import Noise
from dsgd.plots import Series, curves
from dsgd.randomness import generator
from dsgd.run import Run
from dsgd.state import Memory, When
from dsgd.statistics import mean_interval, shown
from dsgd.study import Claim, Figure, Judged, Report, Table, judge
from dsgd.tasks import Task
from topologies import Static, Topology

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.objectives import Objective
    from dsgd.trees import Params

question = "Does SSAM widen SAM's range of learning rates and free it from saddle points, in D-SGD too?"
accepts_divergence = True

Rate = tuple[float, float]  # learning rate and momentum
CALM, HOT, FAR, FAST, FASTER = range(5)  # places in the sweep
CHANCE = 0.1
ACCURACY = "test_accuracy_mean_model"
KINDS: dict[str, Callable[[float], Gradient]] = {
    "SGD": lambda rho: Plain(),
    "USAM": Usam,
    "SSAM-U": Ssam,
    "SAM": Sam,
    "SSAM": lambda rho: Ssam(rho, "sam"),
}
METHODS = ("SGD", "USAM(0.1)", "USAM(0.5)", "SSAM-U(0.1)", "SSAM-U(0.5)", "SAM(0.1)", "SAM(0.5)", "SSAM(0.5)")
ON_RING = ("SGD", "USAM(0.5)", "SSAM-U(0.5)", "SAM(0.5)")
IN_NOISE = ("SGD", "USAM(0.5)", "SSAM-U(0.5)", "SSAM-U(1)", "SAM(0.5)", "SSAM(0.5)")
NOISE_ON_RING = ("SGD", "SSAM-U(0.5)", "SSAM-U(1)", "SAM(0.5)")
DEFINITIONS = {
    "USAM(rho), SAM(rho)": "the gradient at w + rho g, or at w + rho g / |g|",
    "SSAM-U(rho), SSAM(rho)": "USAM's or SAM's gradient at the length of g, the plain gradient",
    "u": "the vector that the optimizer steps along",
    "lambda, kappa": "a curvature of a quadratic; one of a saddle is -kappa",
    "lr, momentum": "of SGD, the learning rate at the start of a cosine to 0",
    "ring": "D-SGD: each replica takes the method's step on an eighth of the mini-batch, then mixes with two neighbours",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; `sweep` are learning rates with their momentum, the ring's are the first three."""

    seeds: int = 8
    seed: int = 800
    data: DataSource = field(default_factory=lambda: Digits(test_size=797, centred=True))
    model: Model = field(default_factory=lambda: Mlp((128, 128), "relu", init="he"))
    sweep: tuple[Rate, ...] = ((0.5, 0.0), (1.0, 0.0), (2.0, 0.0), (0.3, 0.9), (0.6, 0.9))
    n: int = 8
    batch_size: int = 64
    steps: int = 800
    noise: float = 0.4
    noisy: Rate = (0.1, 0.9)
    noisy_steps: int = 1500
    weight_decay: float = 5e-4
    departures: tuple[str, ...] = ()


presets = {
    "smoke": Settings(
        seeds=2,
        seed=0,
        data=Digits(train_size=128, test_size=400, centred=True),
        model=Mlp((16,), "relu", init="he"),
        n=4,
        batch_size=16,
        steps=20,
        noisy_steps=20,
    ),
    "standard": Settings(),
    "long": Settings(5, data=FashionMnist(), steps=2000, noisy_steps=4000),
    "paper": Settings(
        seeds=3,
        data=Cifar10(),
        model=ResNet18(),
        sweep=((0.05, 0.9), (0.2, 0.9), (0.8, 0.9), (0.5, 0.0), (2.0, 0.0)),
        batch_size=128,
        steps=78_000,
        noisy=(0.05, 0.9),
        noisy_steps=78_000,
        departures=(
            "The paper's radii and learning rates are not at hand: 0.05 with momentum is the example of its code, which "
            "has a radius of 0.05.",
            "GroupNorm in place of BatchNorm, no augmentation.",
        ),
    ),
}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label: where, the method, learning rate and momentum, the seed."""
    found: dict[str, Run] = {}
    for seed in _seeds(settings):
        data = settings.data
        for place, methods, rates in (("one", METHODS, settings.sweep), ("ring", ON_RING, settings.sweep[: FAR + 1])):
            for method, rate in ((method, rate) for method in methods for rate in rates):
                label = f"{place} {method} {_words(rate)} {seed}"
                found[label] = _run(settings, place, method, rate, data, settings.steps, seed)
        own = replace(data, split=seed) if isinstance(data, Digits) else data
        noisy, steps = LabelNoise(own, settings.noise, draw=seed), settings.noisy_steps
        for place, methods in (("one", IN_NOISE), ("ring", NOISE_ON_RING)):
            for method in methods:
                run = _run(settings, place, method, settings.noisy, noisy, steps, seed)
                found[f"noise {place} {method} {seed}"] = run
    return found


def _run(settings: Settings, place: str, method: str, rate: Rate, data: DataSource, steps: int, seed: int) -> Run:
    lr, momentum = rate
    n = 1 if place == "one" else settings.n
    return Run(
        task=Task(data),
        model=settings.model,
        topology=Static(Topology("ring", n)),
        gradient=_gradient(method),
        optimizer=Sgd(momentum, weight_decay=settings.weight_decay),
        learning_rate=Cosine(lr),
        batch_size=settings.batch_size // n,
        steps=steps,
        seed=seed,
        metrics=(Accuracy(every=0), Consensus(every=0)),
    )


def _gradient(method: str) -> Gradient:
    name, _, rho = method.rstrip(")").partition("(")
    return KINDS[name](float(rho or 0))


def _words(rate: Rate) -> str:
    return " ".join(f"{number:g}" for number in rate)


def _seeds(settings: Settings) -> range:
    return range(settings.seed, settings.seed + settings.seeds)


# The exact recursions: gradient methods on quadratics, a step of plain descent each.

LAMBDA = 4.0
CURVATURES = {"one direction": (LAMBDA,), "ten directions": tuple(0.1 + (LAMBDA - 0.1) * k / 9 for k in range(10))}
RHOS = (0.1, 0.5, 1.0)
FINE = 1.0025  # between two learning rates of the grid
KAPPA = 2.0
SADDLE, LEFT, ESCAPE_LR = (2.0, -KAPPA), 1.0, 0.01
MOST = 5000  # steps; the slowest escape takes 2,305
ESCAPES: tuple[tuple[str, float, int | None], ...] = (  # as derived, and as found without dsgd; None: never
    ("SGD", 0.0, 233),
    ("SAM", 0.01, 238),
    ("SSAM", 0.01, 238),
    ("USAM", 0.05, 259),
    ("SSAM-U", 0.05, 262),
    ("USAM", 0.2, 387),
    ("SSAM-U", 0.2, 350),
    ("USAM", 0.45, 2305),
    ("SSAM-U", 0.45, 512),
    ("USAM", 0.6, None),
    ("SSAM-U", 0.6, None),
    ("SAM", 0.1, None),
    ("SSAM", 0.1, None),
    ("SAM", 0.5, None),
    ("SSAM", 0.5, None),
)
NORMALISED_RHOS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07)
PLAIN_RHOS = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)


@dataclass(frozen=True)
class Form:
    """The loss 1/2 sum_i h_i w_i^2 of every row, as far as these methods ask."""

    h: Tensor

    def loss_and_grad(self, p: Params, weights: None = None) -> tuple[Tensor, Params]:
        g = p.like(p.matrix * self.h)
        return (g.matrix * p.matrix).sum(dim=1) / 2, g


def _asked(gradient: Gradient, h: Sequence[float], w: Tensor, step: int = 0) -> Tensor:
    """What the method hands to the optimizer at the points w (rows, d) of the quadratic with curvatures h (d,)."""
    from dsgd.trees import Layout, Params

    p, memory = Params(w, Layout(("w",), ((len(h),),))), Memory()
    objective = cast("Objective", Form(w.new_tensor(h)))
    return gradient.estimate(objective, p, Noise(step, ()), memory, When(step, 0.0)).grads.matrix


@cache
def stable_lr(kind: str, rho: float, curvatures: str) -> float:
    """The largest learning rate of a fine grid up to which 400 steps lead towards the minimum."""
    import torch

    h = CURVATURES[curvatures]
    lrs = torch.tensor([0.05 * FINE**k for k in range(1200)], dtype=torch.float64)
    start = torch.from_numpy(generator(0, "start").standard_normal((1, len(h))))
    w = start.repeat(len(lrs), 1)
    for step in range(400):
        w = w - lrs[:, None] * _asked(KINDS[kind](rho), h, w, step)
    nearer = (w.norm(dim=1) < start.norm()).tolist()
    return float(lrs[nearer.index(False) - 1])


@cache
def escape(kind: str, rho: float) -> int | None:
    """The steps after which |y| > 1; None where it is not within 5,000."""
    import torch

    w = torch.tensor([[-3.0, -0.01]], dtype=torch.float64)
    for step in count(1):
        w = w - ESCAPE_LR * _asked(KINDS[kind](rho), SADDLE, w, step)
        if abs(float(w[0, 1])) > LEFT:
            return step
        if step == MOST:
            return None
    raise AssertionError


def length_error() -> float:
    """The largest | |u| / |g| - 1 | of SSAM on both ascents, at a thousand points."""
    import torch

    h = CURVATURES["ten directions"]
    w = torch.from_numpy(generator(0, "points").standard_normal((1000, len(h))))
    g = _asked(Plain(), h, w).norm(dim=1)
    ratios = [_asked(KINDS[kind](rho), h, w).norm(dim=1) / g for kind in ("SSAM-U", "SSAM") for rho in RHOS]
    return max(float((ratio - 1).abs().max()) for ratio in ratios)


def threshold_error(kind: str) -> float:
    """The largest relative distance of the stable learning rate from theory, over radii and quadratics."""

    def theory(rho: float) -> float:
        return 2 / (LAMBDA * (1 + rho * LAMBDA)) if kind == "USAM" else 2 / LAMBDA

    return max(abs(stable_lr(kind, rho, name) / theory(rho) - 1) for rho in RHOS for name in CURVATURES)


def _exact(name: str, value: float, low: float | None, high: float | None, words: str, control: bool = False) -> Claim:
    return Claim(name, "control" if control else "claim", (value,), low, high, words)


def _steps_ratio(rho: float) -> float:
    """log of SSAM's steps over USAM's; one that never escapes has taken all."""
    return log((escape("SSAM-U", rho) or MOST) / (escape("USAM", rho) or MOST))


def _recursion_claims() -> Iterator[Claim]:
    words = "relative distance of the largest stable lr from 2 / lambda: 0.01 at most"
    yield _exact("stable lr: SSAM", threshold_error("SSAM-U"), None, 0.01, words)
    yield _exact("stable lr: GD", threshold_error("SGD"), None, 0.01, words, True)
    words = "relative distance of the largest stable lr from 2 / (lambda (1 + rho lambda)): 0.01 at most"
    yield _exact("stable lr: USAM", threshold_error("USAM"), None, 0.01, words)
    yield _exact("length of the step", length_error(), None, 1e-6, "largest | |u| / |g| - 1 |: 1e-6 at most", True)
    found = [(escape(kind, rho), steps) for kind, rho, steps in ESCAPES]
    worst = max(abs((took or MOST) - steps) for took, steps in found if steps)
    yield _exact("saddle: steps", worst, None, 3, "largest distance from the derived steps: 3 at most")
    freed = sum(took is not None for took, steps in found if steps is None)
    words = "escapes with rho kappa > 1, or normalised from inside the ball: none"
    yield _exact("saddle: trapped as derived", freed, None, 0, words, True)
    rhos = sorted({rho for kind, rho, _ in ESCAPES if kind == "SSAM-U"})
    words = "log of SSAM-U's steps over USAM's, the largest over rho: below 0, so that SSAM escapes sooner at every rho"
    yield _exact("saddle: SSAM sooner, every rho", max(map(_steps_ratio, rhos)), None, -1e-9, words)
    words = "the same over 0.4 <= rho kappa < 1 alone: below 0"
    some = [rho for rho in rhos if 0.4 <= rho * KAPPA < 1]
    yield _exact("saddle: SSAM sooner, rho kappa < 1", max(map(_steps_ratio, some)), None, -1e-9, words)
    trapped = [(kind, rho) for kind, rho, steps in ESCAPES if steps is None and not kind.startswith("SSAM")]
    left = fmean(escape("SSAM-U" if kind == "USAM" else "SSAM", rho) is not None for kind, rho in trapped)
    words = "share of the saddles that trap USAM or SAM which SSAM with the same ascent leaves: all"
    yield _exact("saddle: SSAM leaves what traps SAM", left, 1, None, words)


# What was trained.


@dataclass(frozen=True)
class Ends:
    """The last rows of all runs, one a seed."""

    settings: Settings
    found: Histories

    def accuracies(self, runs: str, name: str = ACCURACY) -> list[float]:
        """A value a seed of the runs whose label starts so; chance where one diverged."""
        rows = [self.found[f"{runs} {seed}"][-1] for seed in _seeds(self.settings)]
        return [CHANCE if row.get("diverged") else cast(float, row[name]) for row in rows]

    def diverged(self, runs: str) -> int:
        return sum(bool(rows[-1].get("diverged")) for rows in histories.select(self.found, runs))

    def at(self, place: str, method: str, rate: int) -> list[float]:
        return self.accuracies(f"{place} {method} {_words(self.settings.sweep[rate])}")

    def noisy(self, method: str, place: str = "one") -> list[float]:
        return self.accuracies(f"noise {place} {method}")

    def named(self, rate: int) -> str:
        lr, momentum = self.settings.sweep[rate]
        return f"lr {lr:g}" + (f", momentum {momentum:g}" if momentum else "")


def _less(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _claim(
    name: str, values: Sequence[float], low: float | None, high: float | None, words: str, control: bool = False
) -> Claim:
    return histories.sample([value] for value in values).claim(name, "control" if control else "claim", low, high, words)


def _sweep_claims(ends: Ends) -> Iterator[Claim]:
    calm, hot, far, fast = map(ends.named, (CALM, HOT, FAR, FAST))
    for place, whose in (("one", ""), ("ring", "ring, ")):
        words = f"{whose}{hot}: accuracy of SSAM-U(0.5) >= 0.95"
        yield _claim(f"{whose}{hot}: SSAM-U trains", ends.at(place, "SSAM-U(0.5)", HOT), 0.95, None, words)
        words = f"{whose}{hot}: accuracy of USAM(0.5) <= 0.5"
        yield _claim(f"{whose}{hot}: USAM breaks down", ends.at(place, "USAM(0.5)", HOT), None, 0.5, words)
        gain = _less(ends.at(place, "SSAM-U(0.5)", CALM), ends.at(place, "SGD", CALM))
        words = f"{whose}{calm}: accuracy of SSAM-U(0.5) less SGD's within 0.01"
        yield _claim(f"{whose}{calm}: SSAM-U like SGD", gain, -0.01, 0.01, words)
        gain = _less(ends.at(place, "SSAM-U(0.5)", FAR), ends.at(place, "SGD", FAR))
        words = f"{whose}{far}: accuracy of SSAM-U(0.5) less SGD's >= 0.3"
        yield _claim(f"{whose}{far}: SSAM-U above SGD", gain, 0.3, None, words)
    gain = _less(ends.at("one", "SSAM(0.5)", HOT), ends.at("one", "SAM(0.5)", HOT))
    yield _claim(f"{hot}: SSAM above SAM", gain, 0.2, None, f"{hot}: accuracy of SSAM(0.5) less SAM(0.5)'s >= 0.2")
    gain = _less(ends.at("one", "SSAM-U(0.5)", FAST), ends.at("one", "USAM(0.5)", FAST))
    words = f"{fast}: accuracy of SSAM-U(0.5) less USAM(0.5)'s >= 0.3"
    yield _claim(f"{fast}: SSAM-U above USAM", gain, 0.3, None, words)
    gain = _less(ends.at("ring", "SSAM-U(0.5)", HOT), ends.at("ring", "SGD", HOT))
    words = f"ring, {hot}: accuracy of SSAM-U(0.5) less D-SGD's >= 0.3"
    yield _claim(f"ring, {hot}: SSAM-U above D-SGD", gain, 0.3, None, words)
    least = [min(seed) for seed in zip(*(ends.at("one", method, CALM) for method in METHODS), strict=True)]
    yield _claim(f"{calm}: all train", least, 0.85, None, f"{calm}: least accuracy of all methods >= 0.85", True)
    words = f"{far}: accuracy of SGD <= 0.5"
    yield _claim(f"{far}: SGD breaks down", ends.at("one", "SGD", FAR), None, 0.5, words, True)


def _noise_claims(ends: Ends) -> Iterator[Claim]:
    sgd, d_sgd = ends.noisy("SGD"), ends.noisy("SGD", "ring")
    for method in ("SAM(0.5)", "SSAM-U(1)"):
        gain = _less(ends.noisy(method), sgd)
        yield _claim(f"noise: {method}", gain, 0.1, None, f"label noise: accuracy of {method} less SGD's >= 0.1")
    gain = _less(ends.noisy("SSAM-U(0.5)"), ends.noisy("USAM(0.5)"))
    words = "label noise: accuracy of SSAM-U(0.5) less USAM(0.5)'s >= 0"
    yield _claim("noise: SSAM-U like USAM", gain, 0, None, words)
    words = "label noise: accuracy of D-SGD on the ring less SGD's >= 0.1"
    yield _claim("noise: D-SGD like SAM", _less(d_sgd, sgd), 0.1, None, words)
    for method in ("SAM(0.5)", "SSAM-U(1)"):
        gain = _less(ends.noisy(method, "ring"), d_sgd)
        words = f"label noise: accuracy of {method} as local step on the ring less D-SGD's >= 0.1"
        yield _claim(f"noise, ring: {method}", gain, 0.1, None, words)
    words = "accuracy of SGD on its noisy training labels >= 0.9"
    learnt = ends.accuracies("noise one SGD", "train_accuracy_mean_model")
    yield _claim("noise: SGD learns it by heart", learnt, 0.9, None, words, True)
