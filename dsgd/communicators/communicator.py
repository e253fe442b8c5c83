"""Mixing over the replica axis, wherever the replicas live: the only operation that crosses replicas."""

from __future__ import annotations

from typing import Protocol

from dsgd.trees import Params, Scaled
from topologies import MixingMatrix


class Communicator(Protocol):
    """The replicas numbered `rows`, ascending, of n in all, and what passes between them and the others.

    `mix(p, w, plus)` returns the rows held here of W p + plus, for the rows `p` and `plus` held here: contiguous, and
    `p` itself only where W is the identity and nothing is added. `begin(p, w)` says that a `mix` of this very `p` and
    `w` comes next, so that what must be sent can be on its way meanwhile. `gather(p)` returns all n replicas' rows;
    `collect(p)` does so in the one place that `leads`, and None elsewhere. `await_leader()` waits, as long as it takes,
    until that place has come as far: it alone measures. All places call them in the same order.
    `bytes_crossed` were sent from here to other places by `mix`, and `dropped` messages came too late to be mixed.
    """

    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...
    @property
    def leads(self) -> bool: ...
    @property
    def bytes_crossed(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def begin(self, p: Params, w: MixingMatrix) -> None: ...
    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params: ...
    def gather(self, p: Params) -> Params: ...
    def collect(self, p: Params) -> Params | None: ...
    def await_leader(self) -> None: ...
