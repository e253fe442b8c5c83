"""What the gradient method notes of its own last step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsgd.metrics.metric import Snapshot, Values, check_every


@dataclass(frozen=True)
class Gauges:
    """`gauge_X`, the replicas' mean of each number X that the gradient method notes: tram, rsgs and imb_sam do."""

    reads_gauges: ClassVar[bool] = True

    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def __call__(self, snapshot: Snapshot) -> Values:
        return {f"gauge_{name}": float(gauge.mean()) for name, gauge in snapshot.gauges.items()}
