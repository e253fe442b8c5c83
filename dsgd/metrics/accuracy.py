"""Loss and accuracy of the mean model, of the replicas (mean and worst) and of the twins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.knobs import check_least
from dsgd.metrics.metric import Snapshot, Split, Values, check_every
from dsgd.objectives import Batch, Network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES_AT_ONCE, ROWS_AT_ONCE = 2048, 32  # bound the activations; each block of rows is read a few times only


@dataclass(frozen=True)
class Accuracy:
    """Loss and accuracy of the mean model, of the replicas (mean and worst) and of the twins, and generalization gaps.

    Names are SPLIT_QUANTITY_WHOSE, for example `test_accuracy_replicas_worst`; accuracies are in [0, 1].

    `replica_test_losses` are those of every replica. `generalization_gap_mean_model` and `TWIN_generalization_gap` are
    the test loss less the training loss.
    The train split is represented by its first `train_examples` examples.
    """

    train_examples: int = 10_000
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, train_examples=1)

    def __call__(self, snapshot: Snapshot) -> Values:
        values: Values = {}
        judged = snapshot.judged()
        splits = {"train": snapshot.train.head(self.train_examples), "test": snapshot.test}
        for name, split in splits.items():
            values |= _of_one(f"{name}_{{}}_mean_model", judged.network, judged.mean, split)
            of_replicas = evaluate(judged.network, judged.replicas, split)
            values |= _of_replicas(name, *of_replicas)
            values |= {"replica_test_losses": of_replicas[0].tolist()} if name == "test" else {}
            for twin, params in judged.twins.items():
                values |= _of_one(f"{twin}_{name}_{{}}", judged.network, params, split)
        return values | _gaps(values, judged.twins)


def evaluate(network: Network, params: Params, split: Split) -> tuple[Tensor, Tensor | None]:
    """Mean loss and accuracy of each row of `params`, both (rows,); accuracy is None where there are no labels."""
    import torch

    with torch.no_grad():
        blocks = [_sums(network, params.like(rows), split) for rows in params.matrix.split(ROWS_AT_ONCE)]
    losses, hits = zip(*blocks, strict=True)
    mean = torch.cat(losses) / len(split.y)
    return mean, None if any(each is None for each in hits) else torch.cat(hits) / len(split.y)


def _sums(network: Network, params: Params, split: Split) -> tuple[Tensor, Tensor | None]:
    """Each row's summed losses and number of hits; None where there are no labels."""
    losses, hits = params.matrix.new_zeros(params.rows), params.matrix.new_zeros(params.rows)
    found = None
    for start in range(0, len(split.y), EXAMPLES_AT_ONCE):
        part = slice(start, start + EXAMPLES_AT_ONCE)
        batch = Batch(network, split.x[part], split.y[part], shared=True)
        outputs = batch.logits(params)
        losses += network.criterion_of(outputs, batch.y.expand(params.rows, -1)).sum(dim=1)
        if (found := network.hits(outputs, batch.y)) is not None:
            hits += found.sum(dim=1)
    return losses, None if found is None else hits


def _gaps(values: Values, twins: Iterable[str]) -> Values:
    named = {"{}_loss_mean_model": "generalization_gap_mean_model"}
    named |= {f"{twin}_{{}}_loss": f"{twin}_generalization_gap" for twin in twins}
    gaps: Values = {}
    for loss, gap in named.items():
        train, test = (values[loss.format(split)] for split in ("train", "test"))
        assert isinstance(train, float)
        assert isinstance(test, float)
        gaps[gap] = test - train
    return gaps


def _of_one(name: str, network: Network, params: Params, split: Split) -> Values:
    loss, accuracy = evaluate(network, params, split)
    return {name.format("loss"): float(loss), name.format("accuracy"): None if accuracy is None else float(accuracy)}


def _of_replicas(name: str, loss: Tensor, accuracy: Tensor | None) -> Values:
    return {
        f"{name}_loss_replicas_mean": float(loss.mean()),
        f"{name}_loss_replicas_worst": float(loss.max()),
        f"{name}_accuracy_replicas_mean": None if accuracy is None else float(accuracy.mean()),
        f"{name}_accuracy_replicas_worst": None if accuracy is None else float(accuracy.min()),
    }
