"""What a metric sees of a run, and the shape of every metric: `Snapshot -> {name: number}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dsgd import trees
from dsgd.objectives import Network
from dsgd.stability import StepRule
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

RECALIBRATION = 10_000  # training examples at most, in one pass

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
    are numbers that the gradient method notes of every replica's last step, shape (n, 1). `statistics` (n, numbers) and
    `twin_statistics` (1, numbers) are the running ones of batch normalisation, where there are any. `rule` is that
    of the step to come, for metrics that read it and where linear theory has one.
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
    statistics: Tensor | None = None
    twin_statistics: Mapping[str, Tensor] = field(default_factory=dict)
    recalibrate: bool = False
    rule: StepRule | None = None

    def judged(self) -> Judged:
        """What the replicas, their mean and the twins are judged by.

        The mean model has the mean of the replicas' statistics, or with `recalibrate` of 10,000 training examples;
        the twins have their own.
        """
        params, network = self.params, self.network
        mean = trees.mean(params)
        if self.statistics is None:
            return Judged(network, params, mean, self.twins)

        def beside(p: Params, statistics: Tensor) -> Params:
            return Params(torch.cat([p.matrix, statistics], dim=1), network.judging.layout)

        import torch

        own = self.statistics.mean(dim=0, keepdim=True)
        if self.recalibrate:
            own = network.statistics(mean, self.train.head(RECALIBRATION).x, shared=True)
        twins = {name: beside(twin, self.twin_statistics[name]) for name, twin in self.twins.items()}
        return Judged(network.judging, beside(params, self.statistics), beside(mean, own), twins)


@dataclass(frozen=True)
class Judged:
    """A network and its replicas, mean model and twins, with all that a judgement of them needs in their rows."""

    network: Network
    replicas: Params
    mean: Params
    twins: Mapping[str, Params]


class Metric(Protocol):
    """`every` steps apart: None follows the run's measure_every, 0 is the end of the run only.

    One that does not fit all data and models has `check(data, module)`, which raises ValueError before the run starts.
    The class attribute `apart` names the knobs that are in its columns' names: two of a kind in a run differ in these.
    """

    @property
    def every(self) -> int | None: ...
    def __call__(self, snapshot: Snapshot) -> Values: ...


def check_every(every: int | None) -> None:
    if every is not None and every < 0:
        raise ValueError(f"every is {every}; it must be at least 0 steps (0: at the end only)")
