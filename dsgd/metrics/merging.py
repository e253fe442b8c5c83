"""What one global merging would give now: the mean of the replicas against the replicas, as if averaged at this step.

Source: Zhu et al. 2026, "On the surprising effectiveness of a single global merging in decentralized learning", arXiv
2507.06542: mergeability is L(mean) <= mean_j L(w_j). For replicas at deviations of size s from their mean,
mean_j L(w_j) - L(mean) = tr(H Xi) / 2 + O(s^3), H the Hessian at the mean, exact where L is quadratic (Zhu et al. 2023,
arXiv 2306.02913): the `half_trace_h_xi` of other metrics predicts the gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.knobs import check_least
from dsgd.metrics.accuracy import evaluate
from dsgd.metrics.metric import Judged, Snapshot, Split, Values, check_every

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Merging:
    """`merging_gain_accuracy_SPLIT` = accuracy(mean model) - mean_j accuracy(w_j), on test, train and shards.

    `merging_gain_loss_SPLIT` = mean_j L(w_j) - L(mean model): above zero, merging helps. The train split is represented
    by its first `train_examples` examples; `shards`, where there are any, compare each replica with the mean model on
    that replica's own examples. Beside Accuracy the two splits are evaluated twice.
    """

    train_examples: int = 10_000
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, train_examples=1)

    def __call__(self, snapshot: Snapshot) -> Values:
        judged = snapshot.judged()
        splits = {"train": snapshot.train.head(self.train_examples), "test": snapshot.test}
        values: Values = {}
        for which, split in splits.items():
            values |= _gains(which, *_everywhere(judged, split))
        if snapshot.shards is not None:
            values |= _gains("shards", *_on_shards(judged, snapshot.train, snapshot.shards))
        return values


Found = tuple["Tensor", "Tensor | None"]  # losses and accuracies


def _gains(which: str, mean: Found, replicas: Found) -> Values:
    """How far the mean model is better than the replicas, on average."""
    (mean_loss, mean_accuracy), (losses, accuracies) = mean, replicas
    loss = float(losses.double().mean() - mean_loss.double().mean())
    accuracy = None
    if mean_accuracy is not None and accuracies is not None:
        accuracy = float(mean_accuracy.double().mean() - accuracies.double().mean())
    return {f"merging_gain_accuracy_{which}": accuracy, f"merging_gain_loss_{which}": loss}


def _everywhere(judged: Judged, split: Split) -> tuple[Found, Found]:
    """The mean model (1,) and the replicas (n,) on the same examples."""
    return evaluate(judged.network, judged.mean, split), evaluate(judged.network, judged.replicas, split)


def _on_shards(judged: Judged, train: Split, shards: tuple[Tensor, ...]) -> tuple[Found, Found]:
    """The mean model and the replicas, each on every replica's own examples, all (n,)."""
    import torch

    pairs = []
    for j, shard in enumerate(shards):
        both = judged.mean.like(torch.cat([judged.mean.matrix, judged.replicas.row(j).matrix]))
        pairs.append(evaluate(judged.network, both, Split(train.x[shard], train.y[shard])))
    losses = torch.stack([loss for loss, _ in pairs], dim=1)
    hits = [accuracy for _, accuracy in pairs if accuracy is not None]
    accuracies = torch.stack(hits, dim=1) if hits else None
    mean, replicas = ((losses[i], None if accuracies is None else accuracies[i]) for i in (0, 1))
    return mean, replicas
