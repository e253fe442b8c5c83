"""What the gradient method notes of its own last step."""

from __future__ import annotations

from dataclasses import dataclass

from dsgd.metrics.metric import Snapshot, Values, check_every


@dataclass(frozen=True)
class Perturbation:
    """`perturbation_X`, the mean over replicas of each number X that the method notes: TRAM's d and length |e|."""

    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def __call__(self, snapshot: Snapshot) -> Values:
        return {f"perturbation_{name}": float(gauge.mean()) for name, gauge in snapshot.gauges.items()}
