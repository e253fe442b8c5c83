"""Accuracy class by class, and of the classes with many, a medium number of, and few training examples.

Source: the evaluation of long-tailed recognition: Liu et al. 2019, arXiv 1904.05160, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.metrics.accuracy import EXAMPLES_AT_ONCE, ROWS_AT_ONCE
from dsgd.metrics.metric import Snapshot, Split, Values, check_every
from dsgd.objectives import Batch, Network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ClassAccuracy:
    """Test accuracy where every class counts the same: unweighted means of the classes' own accuracies, in [0, 1].

    `class_accuracy_GROUP_WHOSE`: GROUP is all classes, those of `many` (more than `many` training examples), of `few`
    (fewer than `few`), or of a `medium` number; WHOSE is mean_model, replicas_mean or replicas_worst, and twins come as
    `TWIN_class_accuracy_GROUP`. Classes without test examples are left out, and a group without classes has None.
    `class_accuracies_mean_model` and `class_training_examples` are lists, a number a class.

    There are no values for a loss without classes.
    """

    many: int = 100
    few: int = 20
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)
        if not 0 <= self.few <= self.many + 1:
            raise ValueError(f"few is {self.few}; it must be 0 to {self.many + 1}, so that no class is of many and few")

    def __call__(self, snapshot: Snapshot) -> Values:
        judged = snapshot.judged()
        if not judged.network.classifies:
            return {}
        mean = class_accuracies(judged.network, judged.mean, snapshot.test)
        counts = snapshot.train.y.bincount(minlength=mean.shape[1])[: mean.shape[1]]
        groups = self._groups(counts)
        values: Values = {
            "class_training_examples": [float(count) for count in counts],
            "class_accuracies_mean_model": [None if value != value else value for value in mean[0].tolist()],
        }
        values |= dict(_of_one("class_accuracy_{}_mean_model", mean, groups))
        values |= dict(_of_replicas(class_accuracies(judged.network, judged.replicas, snapshot.test), groups))
        for twin, params in judged.twins.items():
            of_twin = class_accuracies(judged.network, params, snapshot.test)
            values |= dict(_of_one(f"{twin}_class_accuracy_{{}}", of_twin, groups))
        return values

    def _groups(self, counts: Tensor) -> dict[str, Tensor]:
        """Which classes are of each group, (classes,)."""
        many, few = counts > self.many, counts < self.few
        return {"all": counts >= 0, "many": many, "medium": ~many & ~few, "few": few}


def class_accuracies(network: Network, params: Params, split: Split) -> Tensor:
    """The share of each class that each row gets right, (rows, classes) in float64; NaN where it has no examples."""
    import torch

    with torch.no_grad():
        blocks = [_hits(network, params.like(rows), split) for rows in params.matrix.split(ROWS_AT_ONCE)]
    hits = torch.cat(blocks)
    return hits / split.y.bincount(minlength=hits.shape[1])


def _hits(network: Network, params: Params, split: Split) -> Tensor:
    """How many examples of each class each row gets right."""
    from torch.nn.functional import one_hot

    def found(start: int) -> Tensor:
        part = slice(start, start + EXAMPLES_AT_ONCE)
        batch = Batch(network, split.x[part], split.y[part], shared=True)
        outputs = batch.logits(params)
        right = outputs.argmax(dim=2) == batch.y
        return right.double() @ one_hot(batch.y, outputs.shape[2]).double()

    first, *others = map(found, range(0, len(split.y), EXAMPLES_AT_ONCE))
    return sum(others, first)


def _of_group(accuracies: Tensor, group: Tensor) -> Tensor | None:
    """Each row's mean over the classes of a group that have an accuracy, (rows,)."""
    own = accuracies[:, group & accuracies[0].isfinite()]
    return own.mean(dim=1) if own.shape[1] else None


def _of_one(name: str, accuracies: Tensor, groups: Mapping[str, Tensor]) -> Iterator[tuple[str, float | None]]:
    for group, classes in groups.items():
        found = _of_group(accuracies, classes)
        yield name.format(group), None if found is None else float(found)


def _of_replicas(accuracies: Tensor, groups: Mapping[str, Tensor]) -> Iterator[tuple[str, float | None]]:
    for group, classes in groups.items():
        found = _of_group(accuracies, classes)
        yield f"class_accuracy_{group}_replicas_mean", None if found is None else float(found.mean())
        yield f"class_accuracy_{group}_replicas_worst", None if found is None else float(found.min())
