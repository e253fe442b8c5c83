"""How well predictions know when they are wrong: the mean model's, the replicas', and those of draws around the mean.

Zhu et al. 2023 (arXiv 2306.02913) offer Xi, the covariance of the replicas, as a free estimate of the covariance of the
weights' posterior. Xi has rank n - 1 at most, and in linear theory its size is set by graph, learning rate and gradient
noise, not by the inverse Hessian over the number of examples: N(0, Xi) is no calibrated posterior. So its draws are
judged as they are, at one fitted scale, and after one fitted temperature, beside draws of the same trace without Xi's
directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from statistics import geometric_mean
from typing import TYPE_CHECKING

import numpy as np

from dsgd.knobs import check_least, check_most
from dsgd.metrics.calibration import (
    BINS,
    Flags,
    Labels,
    Numbers,
    Table,
    accuracy,
    auroc,
    brier,
    ece,
    entropy,
    fitted_temperature,
    nll,
    tempered,
)
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.members import Members, Prediction, around, given, offsets, predicted
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.objectives import Network
from dsgd.randomness import generator
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

TEST = "test"
Answers = Mapping[str, Prediction]  # to the test split and to each shifted form of it, example by example


@dataclass(frozen=True)
class Uncertainty:
    """Accuracy, NLL, Brier and calibration errors of mean model, replicas and draws from N(0, Xi), and what they doubt.

    The predictors: `mean_model`; `replicas`, the average of their probabilities; the twins by their names; averages
    over `samples` draws around the mean model (0: none), `xi` from N(0, Xi), `isotropic` from N(0, Tr Xi / d I), and
    `leafwise`, isotropic within each leaf with Xi's trace there; and each of these with its draws scaled by the best of
    `scales`, as `xi_scaled`, of which there are only scores. Draws keep the mean model's running statistics.

    The names: `accuracy_P`, `nll_P`, `brier_P`, `ece_P` of a predictor P on the test split, the latter three also after
    one temperature, as `nll_calibrated_P`; `temperature_P` and `scale_P`. A temperature, like a scale, is the one of
    least NLL on one half of the test split, and judged on the other, both ways round: given is their geometric mean.
    `error_auroc_DOUBT_P` is the chance that a wrongly classified example is in more DOUBT than another: the `entropy`
    of the prediction, or `information`, what the members' disagreement adds to it, whose mean is `information_P`.
    `ood_auroc_SHIFT_DOUBT_P` is that chance for a shifted example and one that is not: `rotated` images, by 90 degrees,
    or `noisy` ones, by `noise` standard deviations of the inputs. An AUROC is None where nothing is to be told apart.
    There are none of tokens, which cannot be shifted so, and no values at all for a loss without classes.
    """

    samples: int = 64
    scales: tuple[float, ...] = (1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0)
    noise: float = 1.0
    bins: int = BINS
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, samples=0, bins=1)
        check_most(self, samples=10_000, bins=10_000)
        if not all(low < high for low, high in pairwise((0.0, *self.scales, math.inf))):
            raise ValueError(f"scales is {list(self.scales)}; they must rise, above 0 and finite")
        if not 0 < self.noise < math.inf:
            raise ValueError(f"noise is {self.noise}; it must be above 0 and finite")

    def __call__(self, snapshot: Snapshot) -> Values:
        judged = snapshot.judged()
        if not judged.network.classifies:
            return {}
        exam = self._exam(snapshot, judged.network)
        values: Values = {}
        for name, row in {"mean_model": judged.mean, **judged.twins}.items():
            values |= exam.marks(name, exam.answers(given(row)))
        apart = not equal_up_to_rounding(judged.replicas.matrix)
        values |= exam.marks("replicas", exam.answers(given(judged.replicas), apart))
        return values | (self._of_draws(exam, snapshot.params, judged.mean, snapshot.seed) if self.samples else {})

    def _of_draws(self, exam: Exam, p: Params, mean: Params, seed: int) -> Values:
        """What is measured of the draws, at their own scale and at the best."""
        values: Values = {}
        apart = not equal_up_to_rounding(p.matrix)
        for name, drawn in offsets(p, seed, self.samples).items():
            at = partial(around, mean, drawn, self.samples)
            values |= exam.marks(name, exam.answers(at(), apart))
            if self.scales:
                scale, table = exam.scaled(at, self.scales)
                values |= exam.scores(f"{name}_scaled", table) | {f"scale_{name}_scaled": scale if apart else None}
        return values

    def _exam(self, snapshot: Snapshot, network: Network) -> Exam:
        x, y, seed = snapshot.test.x, snapshot.test.y.cpu().numpy(), snapshot.seed
        order = generator(seed, "uncertainty", "halves").permutation(len(y))
        turned = {"rotated": x.rot90(1, (-2, -1))} if _square(x) else {}
        shifted = {} if hasattr(network.module, "embedding_width") else {**turned, "noisy": self._noisy(x, seed)}
        return Exam(network, {TEST: x, **shifted}, y, order < len(y) // 2, self.bins)

    def _noisy(self, x: Tensor, seed: int) -> Tensor:
        noise = generator(seed, "uncertainty", "noise").standard_normal(tuple(x.shape))
        return x + x.new_tensor(noise) * (self.noise * x.std())


@dataclass(frozen=True)
class Exam:
    """Inputs (N, ...), the test split's and shifted forms of them, its labels (N,), and which are of the first half."""

    network: Network
    inputs: Mapping[str, Tensor]
    y: Labels
    first: Flags
    bins: int

    def answers(self, members: Members, apart: bool = True) -> Answers:
        """What the members predict together; those that are not `apart` disagree by rounding, and so about nothing."""
        found = {form: predicted(self.network, members, x) for form, x in self.inputs.items()}
        if apart:
            return found
        return {form: replace(one, information=np.zeros(len(one.p))) for form, one in found.items()}

    def scaled(self, at: Callable[[float], Members], scales: tuple[float, ...]) -> tuple[float, Table]:
        """The mean of the scales that are best on either half, and the probabilities of either half at the other's."""
        tables = {scale: predicted(self.network, at(scale), self.inputs[TEST]).p for scale in scales}

        def best(half: Flags) -> float:
            return min(scales, key=lambda scale: nll(tables[scale][half], self.y[half]))

        of_first, of_second = best(self.first), best(~self.first)
        return geometric_mean((of_first, of_second)), self._either(tables[of_second], tables[of_first])

    def marks(self, name: str, answers: Answers) -> Values:
        """Everything measured of one predictor."""
        test = answers[TEST]
        mean = {} if test.information is None else {f"information_{name}": float(test.information.mean())}
        return {**self.scores(name, test.p), **mean, **self._found(name, answers)}

    def scores(self, name: str, p: Table) -> Values:
        """What is measured of the probabilities, as they are and calibrated."""
        temperatures = [fitted_temperature(p[half], self.y[half]) for half in (self.first, ~self.first)]
        calibrated = self._either(tempered(p, temperatures[1]), tempered(p, temperatures[0]))
        values: Values = {f"accuracy_{name}": accuracy(p, self.y), f"temperature_{name}": geometric_mean(temperatures)}
        for how, table in ((name, p), (f"calibrated_{name}", calibrated)):
            values |= {f"nll_{how}": nll(table, self.y), f"brier_{how}": brier(table, self.y)}
            values[f"ece_{how}"] = ece(table, self.y, self.bins)
        return values

    def _either(self, first: Table, second: Table) -> Table:
        """The one's rows for the first half, the other's for the second."""
        chosen: Table = np.where(self.first[:, None], first, second)
        return chosen

    def _found(self, name: str, answers: Answers) -> Values:
        """How well each doubt finds the errors and the shifted examples."""
        wrong = answers[TEST].p.argmax(axis=1) != self.y
        doubts = {of: _doubts(prediction) for of, prediction in answers.items()}
        values: Values = {}
        for doubt, inside in doubts.pop(TEST).items():
            values[f"error_auroc_{doubt}_{name}"] = auroc(inside, wrong)
            for shift, outside in doubts.items():
                shifted = np.arange(2 * len(inside)) >= len(inside)
                values[f"ood_auroc_{shift}_{doubt}_{name}"] = auroc(np.concatenate([inside, outside[doubt]]), shifted)
        return values


def _doubts(prediction: Prediction) -> dict[str, Numbers]:
    information = {} if prediction.information is None else {"information": prediction.information}
    return {"entropy": entropy(prediction.p), **information}


def _square(x: Tensor) -> bool:
    """Whether the inputs are images that can be turned by a right angle."""
    return x.dim() == 4 and x.shape[-1] == x.shape[-2]
