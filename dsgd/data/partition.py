"""A partition shares the training examples out over the replicas: it decides how far their objectives differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from dsgd.randomness import generator

if TYPE_CHECKING:
    from dsgd.data.examples import Labels

Indices = npt.NDArray[np.int64]

ATTEMPTS = 100


class Partition(Protocol):
    """A frozen value; `shards` gives every replica its own sorted indices, or None where all share one stream."""

    def shards(self, y: Labels, n: int, seed: int) -> tuple[Indices, ...] | None: ...


@dataclass(frozen=True)
class Iid:
    """Every replica draws from one stream of reshuffled passes over the whole training set."""

    def shards(self, y: Labels, n: int, seed: int) -> None:
        """None: there are no shards."""
        return


@dataclass(frozen=True)
class Shards:
    """Fixed, disjoint, equal random shards; the len(y) mod n examples left over belong to nobody."""

    def shards(self, y: Labels, n: int, seed: int) -> tuple[Indices, ...]:
        """n index arrays of len(y) // n examples."""
        order = generator(seed, "partition").permutation(len(y))
        return tuple(np.sort(order[: len(y) // n * n].reshape(n, -1)))


@dataclass(frozen=True)
class Dirichlet:
    """Label skew: the examples of each class go to the replicas in proportions drawn from Dir(alpha, ..., alpha).

    Source: Yurochkin et al. 2019, arXiv:1905.12022, section 4, with the names of flwr-datasets. As in their code, a
    replica that already has its average share, len(y) / n, gets nothing of the classes that follow; and the draw is
    repeated, up to 100 times, until every replica has `min_partition_size` examples.
    """

    alpha: float = 0.5
    min_partition_size: int = 10

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha={self.alpha} is not possible: give a positive number (small skews, large is iid).")
        if self.min_partition_size < 1:
            raise ValueError(f"min_partition_size={self.min_partition_size} is not possible: give at least 1.")

    def shards(self, y: Labels, n: int, seed: int) -> tuple[Indices, ...]:
        """n index arrays that cover all examples; ValueError if no draw gives everybody enough."""
        for attempt in range(ATTEMPTS):
            shards = self._drawn(y, n, generator(seed, "partition", attempt))
            if min(map(len, shards)) >= self.min_partition_size:
                return shards
        raise ValueError(
            f"In {ATTEMPTS} draws with alpha={self.alpha} some of the {n} replicas always got fewer than "
            f"min_partition_size={self.min_partition_size} of the {len(y)} training examples: "
            "raise alpha, lower min_partition_size, or use fewer replicas."
        )

    def _drawn(self, y: Labels, n: int, stream: np.random.Generator) -> tuple[Indices, ...]:
        owner = np.empty(len(y), np.int64)
        for label in np.unique(y):
            members = stream.permutation(np.flatnonzero(y == label))
            # Leaving replicas out and drawing for the others is the renormalised draw, without its 0 / 0.
            open_to_more = np.flatnonzero(np.bincount(owner[y < label], minlength=n) * n < len(y))
            shares = stream.dirichlet(np.full(len(open_to_more), self.alpha))
            cuts = (np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
            owner[members] = open_to_more[np.searchsorted(cuts, np.arange(len(members)), side="right")]
        by_owner = np.argsort(owner, kind="stable")
        return tuple(np.split(by_owner, np.cumsum(np.bincount(owner, minlength=n))[:-1]))


@dataclass(frozen=True)
class ByLabel:
    """Sort by label, cut into n * labels_per_replica slices, deal every replica `labels_per_replica` at random.

    Source: McMahan et al. 2017, arXiv:1602.05629, section 3 (two slices each). Slices differ by at most one example;
    one that straddles two labels brings both.
    """

    labels_per_replica: int = 2

    def __post_init__(self) -> None:
        if self.labels_per_replica < 1:
            raise ValueError(f"labels_per_replica={self.labels_per_replica} is not possible: give at least 1.")

    def shards(self, y: Labels, n: int, seed: int) -> tuple[Indices, ...]:
        """n index arrays that cover all examples."""
        slices = np.array_split(np.argsort(y, kind="stable"), n * self.labels_per_replica)
        hands = generator(seed, "partition").permutation(len(slices)).reshape(n, -1)
        return tuple(np.sort(np.concatenate([slices[k] for k in hand])) for hand in hands)


PARTITIONS: dict[str, type[Partition]] = {
    "iid": Iid,
    "shards": Shards,
    "dirichlet": Dirichlet,
    "by_label": ByLabel,
}
