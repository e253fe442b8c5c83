"""Replicas in several places: each sends every peer the rows that W asks for, packed into one message, and no more.

While messages are on their way W is applied to the rows held here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from dsgd.communicators.local import KEPT
from dsgd.communicators.messages import Announced, Message, size_of
from dsgd.communicators.plans import Blocks, Exchange, exchange
from dsgd.communicators.shared import Room, Rooms
from dsgd.mixing import Mix, operator
from dsgd.trees import Params, Scaled
from topologies import Identity, Mean, MixingMatrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Wait = Callable[[float | None], bool]  # whether it is done within so many seconds; None: else PeerLost in the end


class Transport(Protocol):
    """Carries messages between the places 0 to `size` - 1, of which this is `me`; their buffers lie on `device`.

    `mates` are the places that can read this one's memory and have theirs read, by their process (`dsgd.communicators.
    shared`): to them only the headers are carried.

    `exchange(number, outgoing, incoming)` begins to send the buffers of `outgoing` to these peers and to fill those of
    `incoming` by what they send in their exchange of the same number; for each buffer of both it returns what waits for
    it, and that for one sent to a mate lasts until the mate has begun the exchange too. `total(tensor)` replaces the
    tensor by its sum over all places, the same to the last bit in each. All raise PeerLost when a peer does not answer
    in time. `await_leader()` waits for the first place however long it takes.
    """

    @property
    def me(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def device(self) -> torch.device | str: ...
    @property
    def mates(self) -> Mapping[int, int]: ...
    def exchange(
        self, number: int, outgoing: Mapping[int, Tensor], incoming: Mapping[int, Tensor]
    ) -> tuple[dict[int, Wait], dict[int, Wait]]: ...
    def total(self, tensor: Tensor) -> None: ...
    def await_leader(self) -> None: ...


class Distributed:
    """The replicas `blocks[transport.me]` of the n in `blocks`; the first place leads.

    With `patience`, in seconds, a peer whose rows come later is left out when they are mixed: whoever should have heard
    it hears itself instead. `dropped` counts these messages.
    """

    def __init__(self, blocks: Blocks, transport: Transport, patience: float | None = None) -> None:
        self.blocks, self.transport, self.patience = blocks, transport, patience
        self._mates = transport.mates if patience is None else {}  # who is left out reads when it is late
        self.dropped = 0
        self.n = sum(map(len, blocks))
        self.rows = tuple(blocks[transport.me])
        self.leads = transport.me == 0
        self.bytes_crossed = 0
        self._exchanges = 0
        self._kept: dict[tuple[Any, ...], _Ready] = {}
        self._rooms = {k: Rooms(pid) for k, pid in self._mates.items()}
        self._means = Slots()
        self._leaving = {k: Slots() for k in range(transport.size)}
        self._coming = {k: Slots() for k in range(transport.size)}
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

    def await_leader(self) -> None:
        self.transport.await_leader()

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
                self._coming[k].forget()
                mixed.index_add_(0, heard.touched, matrix[heard.touched] * heard.weight)
            else:
                mixed.index_add_(0, heard.touched, heard.others(rows.to(matrix.device), None))
        for k in arrive.unsent(self.patience):
            self._leaving[k].forget()
        self.bytes_crossed += ready.bytes_a_mix
        return mixed

    def _sent(self, ready: _Ready, matrix: Tensor) -> _Arriving:
        """The exchange that W asks for, on its way."""
        leaving = {k: (rows, self._to(k, len(rows), matrix)) for k, rows in ready.sends.items()}
        return self._begin(
            matrix, leaving, {k: self._from(k, heard.count, matrix) for k, heard in ready.receives.items()}
        )

    def _to(self, peer: int, count: int, like: Tensor) -> Message:
        """The next message to a peer, in its buffers."""
        size = size_of(count, like)
        if peer in self._mates:
            room = self._leaving[peer].next(size, Room)
            return Message(count, like, room.raw, room)
        return Message(count, like, self._leaving[peer].next(size, partial(buffer, like, self.transport.device)))

    def _from(self, peer: int, count: int, like: Tensor) -> Message | Announced:
        """What the next message of a peer arrives in."""
        if peer in self._mates:
            return Announced(self._rooms[peer], count, like)
        size = size_of(count, like)
        return Message(count, like, self._coming[peer].next(size, partial(buffer, like, self.transport.device)))

    def _mean(self, matrix: Tensor) -> Tensor:
        """The mean over all n rows (1, d)."""
        total, size = matrix.sum(dim=0, keepdim=True), self.transport.size
        if len(self._mates) == size - 1:
            self.bytes_crossed += (size - 1) * total.nbytes
            return self._added(total) / self.n
        carried = total.to(self.transport.device)
        self.transport.total(carried)
        self.bytes_crossed += 2 * (size - 1) * carried.nbytes // size  # a ring all-reduce
        return carried.to(matrix.device) / self.n

    def _added(self, row: Tensor) -> Tensor:
        """The sum of the rows (1, d) of all places, which share a machine; the same to the last bit in each.

        Summed in the order of the places: over gloo it may differ in the last bit.
        """
        import torch

        room = self._means.next(size_of(1, row), Room)
        message = Message(1, row, room.raw, room)
        message.rows.copy_(row)
        arrive = self._exchanged(dict.fromkeys(self._mates, message), {k: self._from(k, 1, row) for k in self._mates})
        total = torch.zeros_like(row)
        for k in range(self.transport.size):
            part = row if k == self.transport.me else arrive(k)
            assert part is not None
            total += part.to(row.device)
        arrive.unsent()
        return total

    def _together(self, matrix: Tensor, receivers: Any) -> Tensor:
        """All n rows in the places `receivers`; elsewhere what was given."""
        import torch

        me, everyone = self.transport.me, torch.arange(len(matrix), device=matrix.device)
        peers = [k for k in range(self.transport.size) if k != me] if me in receivers else []
        arriving = {k: self._message(len(self.blocks[k]), matrix) for k in peers}
        leaving = {k: (everyone, self._message(len(matrix), matrix)) for k in receivers if k != me}
        arrive = self._begin(matrix, leaving, arriving)
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

    def _message(self, count: int, like: Tensor) -> Message:
        return Message(count, like, buffer(like, self.transport.device, size_of(count, like)))

    def _begin(
        self,
        matrix: Tensor,
        leaving: Mapping[int, tuple[Tensor, Message]],
        arriving: Mapping[int, Message | Announced],
    ) -> _Arriving:
        """Packs the rows of the matrix for each peer and begins the next exchange."""
        import torch

        for rows, message in leaving.values():
            if matrix.device == message.rows.device:
                torch.index_select(matrix, 0, rows, out=message.rows)
            else:
                message.rows.copy_(matrix.index_select(0, rows))
        return self._exchanged({k: message for k, (_, message) in leaving.items()}, arriving)

    def _exchanged(self, leaving: Mapping[int, Message], arriving: Mapping[int, Message | Announced]) -> _Arriving:
        """The next exchange, begun."""
        self._exchanges += 1
        for message in leaving.values():
            message.mark(self._exchanges, self.transport.me)
        arrivals, departures = self.transport.exchange(
            self._exchanges,
            {k: message.carried for k, message in leaving.items()},
            {k: message.carried for k, message in arriving.items()},
        )
        return _Arriving(self._exchanges, arriving, arrivals, departures)

    def _ready(self, w: MixingMatrix, like: Tensor) -> _Ready:
        """This place's part in W made ready for matrices like this one; the latest few are kept."""
        key = id(w), like.dtype, like.device, like.shape[1]
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            part = exchange(w, self.blocks, self.transport.me)
            self._kept[key] = ready(w, part, like)
        return self._kept[key]


@dataclass(frozen=True)
class _Arriving:
    """The messages of one exchange on their way."""

    number: int
    messages: Mapping[int, Message | Announced]
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


class Slots:
    """Two buffers for the messages to or from one peer, in turns: what was sent is not overwritten while it is read.

    A peer reads rows in this place's memory until it has mixed them, and then begins the next exchange, for which the
    wait for that one to be sent waits; so the one after finds the first buffer free.
    """

    def __init__(self) -> None:
        self._buffers: list[Any] = [None, None]
        self._turn = 0

    def next(self, size: int, make: Callable[[int], Any]) -> Any:
        """A buffer of at least `size` bytes, that of the message before the last if it is large enough."""
        self._turn = 1 - self._turn
        found = self._buffers[self._turn]
        if found is None or len(found) < size:
            found = self._buffers[self._turn] = make(size)
        return found

    def forget(self) -> None:
        """What is there is not used again: it is still being sent, read, or waited for."""
        self._buffers = [None, None]


def buffer(like: Tensor, device: torch.device | str, size: int) -> Tensor:
    """New bytes on a device, pinned if they are to go to a GPU."""
    import torch

    pinned = like.is_cuda and str(device) == "cpu"
    return torch.empty(size, dtype=torch.uint8, device=device, pin_memory=pinned)


@dataclass(frozen=True)
class _Heard:
    """What is made of the `count` rows of a peer: `others` of them is added to the rows `touched`.

    `weight` (touched, 1) is what these give to the peer in all.
    """

    count: int
    touched: Tensor
    others: Mix
    weight: Tensor


@dataclass(frozen=True)
class _Ready:
    """An exchange with its operators and indices made, for matrices of one kind."""

    w: MixingMatrix  # held, so that its id stays its own
    here: Mix
    sends: dict[int, Tensor]
    receives: dict[int, _Heard]
    bytes_a_mix: int


def ready(w: MixingMatrix, part: Exchange, like: Tensor) -> _Ready:
    """The part in W ready for matrices like `like` (rows, d)."""
    import torch

    def on(index: Any) -> Tensor:
        return torch.from_numpy(index).to(like.device)

    receives = {}
    for k, heard in part.receives.items():
        weight = heard.others.dense(like).sum(dim=1, keepdim=True)
        receives[k] = _Heard(heard.others.n, on(heard.touched), operator(heard.others, like), weight)
    sends = {k: on(rows) for k, rows in part.sends.items()}
    sent = sum(len(rows) for rows in sends.values()) * like.shape[1] * like.element_size()
    return _Ready(w, operator(part.here, like), sends, receives, sent)
