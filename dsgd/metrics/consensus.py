"""How far the replicas are apart: the consensus distance, and how far each twin is from their mean."""

from __future__ import annotations

from dataclasses import dataclass

from dsgd import trees
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.perturbations import cloud


@dataclass(frozen=True)
class Consensus:
    """`trace_xi` = (1/n) sum |w_j - mean|^2, `consensus_distance` its square root, `TWIN_distance` = |mean - twin|."""

    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def __call__(self, snapshot: Snapshot) -> Values:
        trace = float(cloud(snapshot.params.matrix.double()).trace)
        mean = trees.mean(snapshot.params)
        distances = {f"{name}_distance": float(trees.norm(mean - twin)) for name, twin in snapshot.twins.items()}
        return {"consensus_distance": trace**0.5, "trace_xi": trace, **distances}
