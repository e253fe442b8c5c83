"""What a replica carries from one step to the next, stacked over the replicas held here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

Memory = Mapping[str, "Tensor"]

STATISTICS = "statistics"  # of batch normalisation, among a state's buffers


@dataclass(frozen=True)
class When:
    """The time at which a step is taken: plain numbers, the same for every replica.

    `lr_max` and `lr_last` are the learning rate's greatest and last value in the run; equal where it is constant.
    """

    step: int
    lr: float
    lr_max: float = 0.0
    lr_last: float = 0.0


@dataclass(frozen=True)
class State:
    """Parameters (rows, d), normalisation buffers, and the memory of each part; every tensor has a leading axis rows.

    `memory` is keyed by the part that owns it: "gradient", "optimizer", "algorithm".
    """

    params: Params
    buffers: Memory = field(default_factory=dict)
    memory: Mapping[str, Memory] = field(default_factory=dict)

    def at(self, params: Params) -> State:
        """The same state at other parameters."""
        return replace(self, params=params)

    def remember(self, owner: str, memory: Memory) -> State:
        """The same state with `owner`'s memory replaced."""
        return replace(self, memory={**self.memory, owner: memory})


def mapped(state: State, function: Callable[[Tensor], Tensor]) -> State:
    """The state with `function` applied to its every tensor."""

    def each(memory: Memory) -> Memory:
        return {name: function(tensor) for name, tensor in memory.items()}

    params = state.params.like(function(state.params.matrix))
    return State(params, each(state.buffers), {owner: each(own) for owner, own in state.memory.items()})
