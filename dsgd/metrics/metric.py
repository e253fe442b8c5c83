"""What a metric sees of a run, and the shape of every metric: `Snapshot -> {name: number}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dsgd.objectives import Network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

Value = float | list[float | None] | str | None
Values = dict[str, Value]


@dataclass(frozen=True)
class Split:
    """Examples on the device: inputs x (N, ...) and labels y (N,)."""

    x: Tensor
    y: Tensor

    def head(self, count: int) -> Split:
        """The first `count` examples, or all."""
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Snapshot:
    """The whole ensemble, n rows, and its twins, one row each, after `step` steps.

    `shards` holds each replica's own training examples by index; None where all draw from the whole train set. `gauges`
    are numbers that the gradient method notes of every replica's last step, shape (n, 1).
    """

    step: int
    params: Params
    network: Network
    train: Split
    test: Split
    smooth: bool = True
    seed: int = 0
    twins: Mapping[str, Params] = field(default_factory=dict)
    shards: tuple[Tensor, ...] | None = None
    gauges: Mapping[str, Tensor] = field(default_factory=dict)


class Metric(Protocol):
    """`every` steps apart: None follows the run's measure_every, 0 is the end of the run only."""

    @property
    def every(self) -> int | None: ...
    def __call__(self, snapshot: Snapshot) -> Values: ...


def check_every(every: int | None) -> None:
    if every is not None and every < 0:
        raise ValueError(f"every is {every}; it must be at least 0 steps (0: at the end only)")
