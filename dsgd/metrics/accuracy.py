"""Loss and accuracy of the mean model, of the replicas (mean and worst) and of the twins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd import trees
from dsgd.metrics.metric import Snapshot, Split, Values, check_every
from dsgd.objectives import Batch, Network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

LOGITS_AT_ONCE = 2**16  # examples, counted once a replica: bounds the activations


@dataclass(frozen=True)
class Accuracy:
    """Names are SPLIT_QUANTITY_WHOSE, for example `test_accuracy_replicas_worst`; accuracies are in [0, 1].

    The train split is represented by its first `train_examples` examples.
    """

    train_examples: int = 10_000
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)
        if self.train_examples < 1:
            raise ValueError(f"train_examples is {self.train_examples}; it must be at least 1")

    def __call__(self, snapshot: Snapshot) -> Values:
        values: Values = {}
        mean = trees.mean(snapshot.params)
        splits = {"train": snapshot.train.head(self.train_examples), "test": snapshot.test}
        for name, split in splits.items():
            values |= _of_one(f"{name}_{{}}_mean_model", snapshot.network, mean, split)
            values |= _of_replicas(name, snapshot.network, snapshot.params, split)
            for twin, params in snapshot.twins.items():
                values |= _of_one(f"{twin}_{name}_{{}}", snapshot.network, params, split)
        return values


def evaluate(network: Network, params: Params, split: Split) -> tuple[Tensor, Tensor | None]:
    """Mean loss and accuracy of each row of `params`, both (rows,); accuracy is None where there are no labels."""
    import torch

    labelled = network.criterion == "cross_entropy"
    losses, hits = params.matrix.new_zeros(params.rows), params.matrix.new_zeros(params.rows)
    with torch.no_grad():
        at_once = max(1, LOGITS_AT_ONCE // params.rows)
        for start in range(0, len(split.y), at_once):
            part = slice(start, start + at_once)
            batch = Batch(network, split.x[part], split.y[part], shared=True)
            logits = batch.logits(params)
            losses += _losses(network, logits, batch.y).sum(dim=1)
            if labelled:
                hits += (logits.argmax(dim=2) == batch.y).sum(dim=1)
    return losses / len(split.y), hits / len(split.y) if labelled else None


def _losses(network: Network, outputs: Tensor, y: Tensor) -> Tensor:
    """Per-example losses (rows, B) of outputs (rows, B, ...)."""
    from torch.nn.functional import cross_entropy

    if network.criterion == "output":
        return outputs
    return cross_entropy(outputs.flatten(0, 1), y.repeat(outputs.shape[0]), reduction="none").unflatten(0, (-1, len(y)))


def _of_one(name: str, network: Network, params: Params, split: Split) -> Values:
    loss, accuracy = evaluate(network, params, split)
    return {name.format("loss"): float(loss), name.format("accuracy"): None if accuracy is None else float(accuracy)}


def _of_replicas(name: str, network: Network, params: Params, split: Split) -> Values:
    loss, accuracy = evaluate(network, params, split)
    return {
        f"{name}_loss_replicas_mean": float(loss.mean()),
        f"{name}_loss_replicas_worst": float(loss.max()),
        f"{name}_accuracy_replicas_mean": None if accuracy is None else float(accuracy.mean()),
        f"{name}_accuracy_replicas_worst": None if accuracy is None else float(accuracy.min()),
    }
