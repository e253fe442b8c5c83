"""A long tail: a data set of which the classes have exponentially fewer training examples, from rank to rank.

Source: CIFAR-LT of Cui et al. 2019, arXiv 1901.05555; with `split` None cut as in ImbSAM's code (Zhou et al.
2023, arXiv 2308.07815). CIFAR100-LT of factor 100 is `largest` 500, `imbalance` 0.01: 10,847 images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.randomness import generator

if TYPE_CHECKING:
    from dsgd.data.examples import Labels

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LongTail:
    """Of `source`, int(largest * imbalance^(rank / (classes - 1))) training examples of the class of each rank, from 0.

    `split` None: class k has rank k, and its first examples are kept. A number: ranks are dealt to the classes, and
    examples to keep are drawn, both keyed by it. Test examples are the source's, the first `test_each` of each class,
    or all. What is kept stays in the source's order.
    """

    source: DataSource
    largest: int = 500
    imbalance: float = 0.01
    split: int | None = None
    test_each: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.imbalance <= 1:
            raise ValueError(
                f"imbalance is {self.imbalance}; it must be above 0 and at most 1, the rarest class's share"
            )
        if not self.largest * self.imbalance >= 1:
            raise ValueError(
                f"largest is {self.largest} and imbalance {self.imbalance}, which leaves nothing of the rarest class; "
                "their product must be at least 1"
            )
        if self.split is not None and self.split < 0:
            raise ValueError(f"split is {self.split}; it must be at least 0, or left out for classes in their order")
        if self.test_each is not None and self.test_each < 1:
            raise ValueError(f"test_each is {self.test_each}; it must be at least 1, or left out for all")

    def load(self) -> DataSet:
        """The data set; ValueError for a source of fewer than two classes, or with too few examples of one."""
        whole = self.source.load()
        if whole.classes < 2:
            raise ValueError(f"source has {whole.classes} class; a long tail needs examples of at least 2 classes")
        counts = self.counts(whole.classes)
        train = kept(self._ordered(whole.train.y), whole.train.y, counts, "training", "largest")
        test = np.arange(len(whole.test))
        if self.test_each is not None:
            each = np.full(whole.classes, self.test_each)
            test = kept(test, whole.test.y, each, "test", "test_each")
        return replace(
            whole,
            train=Examples(whole.train.x[train], whole.train.y[train]),
            test=Examples(whole.test.x[test], whole.test.y[test]),
        )

    def counts(self, classes: int) -> Indices:
        """The training examples of each class, shape (classes,)."""
        shares = [self.imbalance ** (rank / (classes - 1)) for rank in self._ranks(classes)]
        return np.array([int(self.largest * share) for share in shares])

    def _ranks(self, classes: int) -> Indices:
        if self.split is None:
            return np.arange(classes)
        return generator(self.split, "long_tail", "ranks").permutation(classes)

    def _ordered(self, y: Labels) -> Indices:
        """The places of the examples, those to be kept first of each class."""
        places = np.arange(len(y))
        return places if self.split is None else generator(self.split, "long_tail", "examples").permutation(places)


def kept(places: Indices, y: Labels, counts: Indices, kind: str, knob: str) -> Indices:
    """The first counts[k] of the `places` where y is k, for all k, sorted; ValueError where there are fewer."""
    found = []
    for label, count in enumerate(counts):
        own = places[y[places] == label]
        if len(own) < count:
            raise ValueError(f"class {label} has {len(own)} {kind} examples, not the {count} asked for; lower {knob}")
        found.append(own[:count])
    return np.sort(np.concatenate(found))
