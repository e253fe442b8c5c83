"""What the hidden units of a two-layer network look at: the inputs that matter, or all of an example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.knobs import check_least
from dsgd.metrics.metric import Snapshot, Values, check_every
from topologies.arguments import KnobError

if TYPE_CHECKING:
    from torch import nn

    from dsgd.data import DataSet


@dataclass(frozen=True)
class Features:
    """Of the mean model: `head_l1`, |gamma * W2|_1, and `tail_share`, how little the largest units look at `relevant`.

    gamma is the network's leaf of that name, or 1. `tail_share` is the mean of |W1_i without its first `relevant`
    inputs| / |W1_i| over the `units` rows of W1 that are longest. Wen, Li & Ma 2023, arXiv 2307.11007, section 3.2.
    """

    relevant: int = 2
    units: int = 4
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, relevant=0, units=1)

    def check(self, data: DataSet, module: nn.Module) -> None:
        """ValueError where the network has not two matrices of parameters, or they are smaller than the knobs say."""
        matrices = [leaf for leaf in module.parameters() if leaf.dim() == 2]
        if len(matrices) != 2:
            raise ValueError(f"features needs a model of two layers, and this has {len(matrices)} matrices")
        for name, size, what in zip(("units", "relevant"), matrices[0].shape, ("hidden units", "inputs"), strict=True):
            if getattr(self, name) > size:
                raise KnobError(
                    name, f"{name} is {getattr(self, name)}; the model has {size} {what}, give at most these"
                )

    def __call__(self, snapshot: Snapshot) -> Values:
        import torch

        judged = snapshot.judged()
        leaves = {name: leaf[0].double() for name, leaf in judged.mean.items()}
        hidden, head = (leaf for leaf in leaves.values() if leaf.dim() == 2)
        gamma = leaves.get("gamma", torch.ones(len(hidden)).to(hidden))
        lengths, longest = hidden.norm(dim=1).topk(min(self.units, len(hidden)))
        tails = hidden[longest, self.relevant :].norm(dim=1) / lengths
        return {"head_l1": float((gamma * head).abs().sum()), "tail_share": float(tails.mean())}
