"""Replicas in several places: each sends every peer the rows that W asks for, packed into one message, and no more.

While messages are on their way W is applied to the rows held here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dsgd.communicators.exchange import Blocks, Exchange, exchange
from dsgd.communicators.local import KEPT
from dsgd.communicators.messages import Message
from dsgd.mixing import Mix, operator
from dsgd.trees import Params, Scaled
from topologies import Identity, Mean, MixingMatrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Wait = Callable[[float | None], bool]  # whether it is done within so many seconds; None: else PeerLost in the end


class Transport(Protocol):
    """Carries messages between the places 0 to `size` - 1, of which this is `me`; their buffers lie on `device`.

    `exchange(number, outgoing, incoming)` begins to send the buffers of `outgoing` to these peers and to fill those of
    `incoming` by what they send in their exchange of the same number; for each buffer of both it returns what waits for
    it. `total(tensor)` replaces the tensor by its sum over all places, the same to the last bit in each. All raise
    PeerLost when a peer does not answer in time.
    """

    @property
    def me(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def device(self) -> torch.device | str: ...
    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Wait], dict[int, Wait]]: ...
    def total(self, tensor: Tensor) -> None: ...


class PeerLost(RuntimeError):
    """Another place did not answer in time, or is gone."""


class Distributed:
    """The replicas `blocks[transport.me]` of the n in `blocks`; the first place leads.

    With `patience`, in seconds, a peer whose rows come later is left out when they are mixed: whoever should have heard
    it hears itself instead. `dropped` counts these messages.
    """

    def __init__(self, blocks: Blocks, transport: Transport, patience: float | None = None) -> None:
        self.blocks, self.transport, self.patience = blocks, transport, patience
        self.dropped = 0
        self.n = sum(map(len, blocks))
        self.rows = tuple(blocks[transport.me])
        self.leads = transport.me == 0
        self.bytes_crossed = 0
        self._exchanges = 0
        self._kept: dict[tuple[Any, ...], _Ready] = {}
        self._begun: tuple[Params, MixingMatrix, _Arriving] | None = None

    def begin(self, p: Params, w: MixingMatrix) -> None:
        if not isinstance(w, Identity | Mean):
            self._begun = p, w, self._sent(self._ready(w, p.matrix), p.matrix)

    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params:
        match w:
            case Identity():
                return p if plus is None else p + plus
            case Mean():
                mean = p.like(self._mean(p.matrix))
                return mean.like(mean.matrix.repeat(p.rows, 1)) if plus is None else mean + plus
            case _:
                return p.like(self._mixed(p, w, plus))

    def gather(self, p: Params) -> Params:
        return p.like(self._together(p.matrix, range(self.transport.size)))

    def collect(self, p: Params) -> Params | None:
        everything = self._together(p.matrix, (0,))
        return p.like(everything) if self.leads else None

    def _mixed(self, p: Params, w: MixingMatrix, plus: Scaled | None) -> Tensor:
        if self._begun is None or self._begun[0] is not p or self._begun[1] is not w:
            self.begin(p, w)
        assert self._begun
        (_, _, arrive), self._begun = self._begun, None
        ready, matrix = self._ready(w, p.matrix), p.matrix
        mixed = ready.here(matrix, plus)
        for k, heard in ready.receives.items():
            rows = arrive(k, self.patience)
            if rows is None:
                self.dropped += 1
                ready.arriving[k] = Message(len(ready.arriving[k].rows), matrix, self.transport.device)
                mixed.index_add_(0, heard.touched, matrix[heard.touched] * heard.weight)
            else:
                mixed.index_add_(0, heard.touched, heard.others(rows.to(matrix.device), None))
        for k in arrive.unsent(self.patience):
            ready.leaving[k] = Message(len(ready.leaving[k].rows), matrix, self.transport.device)
        self.bytes_crossed += ready.bytes_a_mix
        return mixed

    def _sent(self, ready: _Ready, matrix: Tensor) -> _Arriving:
        """The exchange that W asks for, on its way."""
        return self._begin({k: (matrix, rows) for k, rows in ready.sends.items()}, ready.arriving, ready.leaving)

    def _mean(self, matrix: Tensor) -> Tensor:
        """The mean over all n rows (1, d)."""
        total = matrix.sum(dim=0, keepdim=True)
        carried = total.to(self.transport.device)
        self.transport.total(carried)
        size = self.transport.size
        self.bytes_crossed += 2 * (size - 1) * carried.nbytes // size  # a ring all-reduce
        return carried.to(matrix.device) / self.n

    def _together(self, matrix: Tensor, receivers: Any) -> Tensor:
        """All n rows in the places `receivers`; elsewhere what was given."""
        import torch

        me, everyone = self.transport.me, torch.arange(len(matrix), device=matrix.device)
        outgoing = {k: (matrix, everyone) for k in receivers if k != me}
        peers = [k for k in range(self.transport.size) if k != me] if me in receivers else []
        arriving = {k: Message(len(self.blocks[k]), matrix, self.transport.device) for k in peers}
        leaving = {k: Message(len(matrix), matrix, self.transport.device) for k in outgoing}
        arrive = self._begin(outgoing, arriving, leaving)
        whole = matrix
        if me in receivers:
            whole = matrix.new_empty(self.n, matrix.shape[1])
            whole[list(self.rows)] = matrix
            for k in peers:
                rows = arrive(k)
                assert rows is not None
                whole[list(self.blocks[k])] = rows.to(matrix.device)
        arrive.unsent()
        return whole

    def _begin(
        self,
        outgoing: Mapping[int, tuple[Tensor, Tensor]],
        arriving: Mapping[int, Message],
        leaving: Mapping[int, Message],
    ) -> _Arriving:
        """Packs the rows for each peer and begins the next exchange."""
        import torch

        self._exchanges += 1
        for k, (matrix, rows) in outgoing.items():
            if matrix.device == leaving[k].raw.device:
                torch.index_select(matrix, 0, rows, out=leaving[k].rows)
            else:
                leaving[k].rows.copy_(matrix.index_select(0, rows))
            leaving[k].mark(self._exchanges, self.transport.me)
        arrivals, departures = self.transport.exchange(
            self._exchanges,
            {k: message.raw for k, message in leaving.items()},
            {k: message.raw for k, message in arriving.items()},
        )
        return _Arriving(self._exchanges, arriving, arrivals, departures)

    def _ready(self, w: MixingMatrix, like: Tensor) -> _Ready:
        """This place's part in W made ready for matrices like this one; the latest few are kept."""
        key = id(w), like.dtype, like.device, like.shape[1]
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            part = exchange(w, self.blocks, self.transport.me)
            self._kept[key] = ready(w, part, like, self.transport.device)
        return self._kept[key]


@dataclass(frozen=True)
class _Arriving:
    """The messages of one exchange on their way."""

    number: int
    messages: Mapping[int, Message]
    arrivals: Mapping[int, Wait]
    departures: Mapping[int, Wait]

    def __call__(self, peer: int, patience: float | None = None) -> Tensor | None:
        """The rows of a peer's message, once they are there; None after the patience, its buffer then still in use."""
        if not self.arrivals[peer](patience):
            return None
        self.messages[peer].check(self.number, peer)
        return self.messages[peer].rows

    def unsent(self, patience: float | None = None) -> list[int]:
        """The peers that did not take their message within the patience, whose buffers are still being sent."""
        return [k for k, wait in self.departures.items() if not wait(patience)]


@dataclass(frozen=True)
class _Heard:
    """What is made of a peer's rows: `others` of them is added to the rows `touched`, which give it the `weight`."""

    touched: Tensor
    others: Mix
    weight: Tensor  # (touched, 1)


@dataclass(frozen=True)
class _Ready:
    """An exchange with its operators, indices and buffers made, for matrices of one kind."""

    w: MixingMatrix  # held, so that its id stays its own
    here: Mix
    sends: dict[int, Tensor]
    receives: dict[int, _Heard]
    arriving: dict[int, Message]
    leaving: dict[int, Message]
    bytes_a_mix: int


def ready(w: MixingMatrix, part: Exchange, like: Tensor, device: torch.device | str) -> _Ready:
    """The part in W ready for matrices like `like` (rows, d), with buffers on the transport's `device`."""
    import torch

    def on(index: Any) -> Tensor:
        return torch.from_numpy(index).to(like.device)

    receives, arriving = {}, {}
    for k, heard in part.receives.items():
        arriving[k] = Message(heard.others.n, like, device)
        weight = heard.others.dense(like).sum(dim=1, keepdim=True)
        receives[k] = _Heard(on(heard.touched), operator(heard.others, like), weight)
    leaving = {k: Message(len(rows), like, device) for k, rows in part.sends.items()}
    sends = {k: on(rows) for k, rows in part.sends.items()}
    sent = sum(message.rows.nbytes for message in leaving.values())
    return _Ready(w, operator(part.here, like), sends, receives, arriving, leaving, sent)
