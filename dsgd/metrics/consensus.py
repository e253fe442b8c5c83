"""How far the replicas are apart: the consensus distance, and how far each twin is from their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd import trees
from dsgd.metrics.metric import Snapshot, Values, check_every

if TYPE_CHECKING:
    from torch import Tensor

NUMBERS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Consensus:
    """`trace_xi` = (1/n) sum |w_j - mean|^2, `consensus_distance` its square root, `TWIN_distance` = |mean - twin|.

    And `replica_distances`, |w_j - mean| of every replica j.
    """

    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def __call__(self, snapshot: Snapshot) -> Values:
        squares = squared_distances(snapshot.params.matrix)
        trace = float(squares.mean())
        mean = trees.mean(snapshot.params)
        distances = {f"{name}_distance": float(trees.norm(mean - twin)) for name, twin in snapshot.twins.items()}
        every: list[float | None] = squares.sqrt().tolist()
        return {"consensus_distance": trace**0.5, "trace_xi": trace, "replica_distances": every, **distances}


def trace_xi(matrix: Tensor) -> float:
    """(1/n) sum |w_j - mean|^2 in float64."""
    return float(squared_distances(matrix).mean())


def squared_distances(matrix: Tensor) -> Tensor:
    """|w_j - mean|^2 of every row j, float64 of shape (n,), by blocks of columns: never a second ensemble."""
    import torch

    total = torch.zeros(matrix.shape[0], dtype=torch.float64, device=matrix.device)
    for columns in matrix.split(max(1, NUMBERS_AT_ONCE // matrix.shape[0]), dim=1):
        block = columns.double()
        total += (block - block.mean(dim=0)).square().sum(dim=1)
    return total


def equal_up_to_rounding(matrix: Tensor) -> bool:
    """Whether the rows lie within the rounding of their dtype of each other."""
    import torch

    return trace_xi(matrix) ** 0.5 <= 4 * torch.finfo(matrix.dtype).eps * float(matrix[0].norm())
