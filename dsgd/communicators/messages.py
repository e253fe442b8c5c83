"""Rows of numbers on their way: behind a header that says which message it is, in one buffer or in shared memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from dsgd.communicators.shared import Room, Rooms

if TYPE_CHECKING:
    from torch import Tensor

HEADER = 64  # bytes, so that the rows behind it are aligned
FIELDS = struct.Struct("<8sQIIQQ")  # mark, number of the exchange, sender, bytes a number, rows, numbers a row
WHERE = struct.Struct("<iQQ")  # behind the fields: file, number and size of the room in which the rows lie; else -1
MARK = b"dsgd/1\0\0"


class PeerLost(RuntimeError):
    """Another place did not answer in time, or is gone."""


class MessageError(RuntimeError):
    """What arrived is not the message that was due."""


def size_of(count: int, like: Tensor) -> int:
    """Bytes of a message of `count` rows like those of a matrix (..., d)."""
    return HEADER + count * like.shape[1] * like.element_size()


class Message:
    """Rows (count, d) of the dtype of `like` behind a header, in the bytes `raw`; the transport is to carry `carried`.

    Where `raw` is of a room that the receiver can read, that is the header alone. Sizes follow from what this place
    itself knows of W, never from what a peer claims.
    """

    def __init__(self, count: int, like: Tensor, raw: Tensor, room: Room | None = None) -> None:
        raw = raw[: size_of(count, like)]
        self.room, self.rows = room, raw[HEADER:].view(like.dtype).view(count, like.shape[1])
        self.carried = raw if room is None else raw[:HEADER]

    def mark(self, number: int, sender: int) -> None:
        """Writes the header, where the buffer lies on the CPU."""
        if not self.carried.is_cuda:
            room = self.room
            where = WHERE.pack(room.file, room.number, len(room.raw)) if room else WHERE.pack(-1, 0, 0)
            written = _header(number, sender, self.rows.element_size(), *self.rows.shape) + where
            self.carried.numpy()[: len(written)] = memoryview(written)

    def check(self, number: int, sender: int) -> None:
        """MessageError unless the header is that of the message due."""
        if not self.carried.is_cuda:
            _check(self.carried, number, sender, self.rows.element_size(), *self.rows.shape)


class Announced:
    """A message of which only the header arrives: its rows (count, d) lie in one of the `rooms` of its sender."""

    def __init__(self, rooms: Rooms, count: int, like: Tensor) -> None:
        import torch

        self.rooms, self.count, self.like = rooms, count, like[:0]
        self.carried = torch.empty(HEADER, dtype=torch.uint8)

    def check(self, number: int, sender: int) -> None:
        """MessageError unless the header is that of the message due."""
        _check(self.carried, number, sender, self.like.element_size(), self.count, self.like.shape[1])

    @property
    def rows(self) -> Tensor:
        """The sender's own memory, not written again before this place has begun the exchange after the next.

        PeerLost where it cannot be read: it is gone with who held it.
        """
        file, number, size = WHERE.unpack_from(self.carried.numpy().tobytes(), FIELDS.size)
        try:
            return Message(self.count, self.like, self.rooms.bytes_of(file, number, size)).rows
        except (OSError, ValueError, RuntimeError) as error:
            raise PeerLost(f"the rows of process {self.rooms.pid} cannot be read ({error})") from error


def _header(number: int, sender: int, itemsize: int, count: int, d: int) -> bytes:
    return FIELDS.pack(MARK, number, sender, itemsize, count, d)


def _check(carried: Tensor, number: int, sender: int, itemsize: int, count: int, d: int) -> None:
    found, due = carried.numpy()[: FIELDS.size].tobytes(), _header(number, sender, itemsize, count, d)
    if found != due:
        raise MessageError(f"place {sender} sent {_told(found)}, due was {_told(due)}")


def _told(header: bytes) -> str:
    mark, number, sender, itemsize, count, d = FIELDS.unpack(header)
    if mark != MARK:
        return f"bytes that are no message of dsgd ({header[:8]!r}...)"
    return f"exchange {number} from place {sender}, {count} rows of {d} numbers of {itemsize} bytes"
