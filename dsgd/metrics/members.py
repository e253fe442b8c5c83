"""Ensembles of models, a few rows at a time, and what each predicts as one: the average of its members' probabilities.

The members are given rows, or draws around the mean of the replicas: from N(0, Xi), Xi the covariance of the replicas
(Zhu et al. 2023, arXiv 2306.02913), or from Gaussians that share Xi's trace and have none of its directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.metrics.accuracy import EXAMPLES_AT_ONCE, ROWS_AT_ONCE
from dsgd.metrics.calibration import Numbers, Table, mutual_information
from dsgd.objectives import Batch, Network
from dsgd.perturbations import cloud
from dsgd.randomness import normal_rows
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

Members = Callable[[], Iterator[Params]]
Offsets = Callable[[int, int], "Tensor"]  # of the draws number `start` to `stop`, (stop - start, d)


@dataclass(frozen=True)
class Prediction:
    """Probabilities (N, classes) of an ensemble, and the mutual information of its members (N,): None of one alone."""

    p: Table
    information: Numbers | None


def predicted(network: Network, members: Members, x: Tensor) -> Prediction:
    """The average of the members' probabilities at inputs x (N, ...), in float64."""
    import torch

    count, sums = 0, torch.zeros(())
    with torch.no_grad():
        for block in members():
            sums = sums.to(x.device) + torch.cat([_sums(network, block, part) for part in x.split(EXAMPLES_AT_ONCE)])
            count += block.rows
    p, entropy = ((sums / count)[:, part].cpu().numpy() for part in (slice(1, None), 0))
    return Prediction(p, mutual_information(p, entropy) if count > 1 else None)


def _sums(network: Network, block: Params, x: Tensor) -> Tensor:
    """Entropies and beside them probabilities, (B, 1 + classes), summed over the block's rows."""
    import torch

    logs = Batch(network, x, x.new_zeros(len(x)), shared=True).logits(block).double().log_softmax(dim=2)
    probabilities = logs.exp()
    entropies = -(probabilities * logs).sum(dim=(0, 2))
    return torch.cat([entropies[:, None], probabilities.sum(dim=0)], dim=1)


def given(p: Params) -> Members:
    """The rows of `p`."""
    return lambda: (p.like(rows) for rows in p.matrix.split(ROWS_AT_ONCE))


def around(mean: Params, offsets: Offsets, count: int, scale: float = 1.0) -> Members:
    """`count` models at the mean (one row) plus `scale` times the offsets, which are of its first d numbers."""

    def blocks() -> Iterator[Params]:
        for start in range(0, count, ROWS_AT_ONCE):
            found = offsets(start, min(start + ROWS_AT_ONCE, count))
            rows = mean.matrix.repeat(len(found), 1)
            rows[:, : found.shape[1]].add_(found, alpha=scale)
            yield mean.like(rows)

    return blocks


def offsets(p: Params, seed: int, count: int) -> dict[str, Offsets]:
    """Of `count` draws: `xi` from N(0, Xi), `isotropic` from N(0, Tr Xi / d I), `leafwise` with Xi's trace in a leaf.

    They do not depend on how the replicas, the rows of `p`, are numbered: coefficients go by distance from the mean.
    """
    import torch

    found = cloud(p.matrix)
    place = found.deviations.norm(dim=1).argsort().argsort().cpu()
    z = found.coefficients(count, seed, "uncertainty", "xi")[:, place]

    def from_xi(start: int, stop: int) -> Tensor:
        return found.offsets(z[start:stop])

    def spread_as(deviation: Tensor, purpose: str) -> Offsets:
        def normal(start: int, stop: int) -> Tensor:
            like = p.matrix.new_empty(stop - start, p.layout.d)
            rows = [(seed, draw) for draw in range(start, stop)]
            return normal_rows(like, rows, "uncertainty", purpose) * deviation

        return normal

    variances = found.deviations.norm(dim=0).double().square() / p.rows
    leaf_means = torch.cat([part.mean().expand(len(part)) for part in variances.split(p.layout.sizes)])
    return {
        "xi": from_xi,
        "isotropic": spread_as(variances.mean().sqrt().to(p.matrix), "isotropic"),
        "leafwise": spread_as(leaf_means.sqrt().to(p.matrix), "leafwise"),
    }
