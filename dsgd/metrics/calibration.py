"""What predicted probabilities are worth against labels: proper scores, calibration, and whether doubt finds errors.

All are pure functions of probabilities p (N, classes), float64, and labels y (N,). A probability of zero counts as
1e-300 where its logarithm is taken.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BINS = 15
TEMPERATURES = (0.05, 20.0)  # within which one is fitted: where all fitted examples are right, none is small enough
LEAST = 1e-300  # probability of which the logarithm is taken

Table = npt.NDArray[np.float64]  # (N, classes)
Numbers = npt.NDArray[np.float64]  # (N,)
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def accuracy(p: Table, y: Labels) -> float:
    """The share of examples whose most probable class is their label."""
    return float((p.argmax(axis=1) == y).mean())


def nll(p: Table, y: Labels) -> float:
    """Negative log-likelihood: the mean of -log p[y]."""
    return float(-_log(p[np.arange(len(y)), y]).mean())


def brier(p: Table, y: Labels) -> float:
    """The mean of sum_k (p_k - [k = y])^2, between 0 and 2: Brier 1950, for several classes."""
    return float((np.square(p).sum(axis=1) - 2 * p[np.arange(len(y)), y] + 1).mean())


def ece(p: Table, y: Labels, bins: int = BINS) -> float:
    """Expected calibration error: the mean of |accuracy - mean confidence| over bins, by their share of the examples.

    Confidence is the largest probability, the bins are of equal width, closed above. Guo et al. 2017, arXiv 1706.04599.
    """
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    excess = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(excess).sum() / len(y))


def entropy(p: Table) -> Numbers:
    """-sum_k p_k log p_k of each example, in nats."""
    found: Numbers = -(p * _log(p)).sum(axis=1)
    return found


def mutual_information(p: Table, members_entropy: Numbers) -> Numbers:
    """Entropy of the mean prediction p less the mean of the members' own: what their disagreement adds, never below 0.

    Of the label and the member that predicts it; zero where all members agree, log of their number at most.
    """
    return np.maximum(entropy(p) - members_entropy, 0.0)


def auroc(score: Numbers, positive: Flags) -> float | None:
    """The chance that a positive example scores above another one, ties counting half; None where either is missing.

    The area under the receiver operating characteristic, by the ranks of Mann and Whitney 1947.
    """
    from scipy.stats import rankdata

    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    return float((rankdata(score)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def tempered(p: Table, temperature: float) -> Table:
    """p^(1/T), normalised: softmax(z) becomes softmax(z / T), and a mean of several is tempered as one."""
    scaled = _log(p) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fitted_temperature(p: Table, y: Labels) -> float:
    """The T within 0.05 and 20 at which the tempered p have the least NLL.

    The NLL is convex in 1/T, so that it has one minimum. Of a mean of members' predictions it is the temperature after
    pooling (Rahaman & Thiery 2021, arXiv 2007.08792).
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return nll(tempered(p, math.exp(log_temperature)), y)

    low, high = TEMPERATURES
    return math.exp(float(minimize_scalar(loss, bounds=(math.log(low), math.log(high)), method="bounded").x))


def _log(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    logarithm: npt.NDArray[np.float64] = np.log(np.maximum(p, LEAST))
    return logarithm
