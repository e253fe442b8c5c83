"""Rows of numbers on their way: one buffer a message, in which a header says which message it is."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

HEADER = 64  # bytes, so that the rows behind it are aligned
FIELDS = struct.Struct("<8sQIIQQ")  # mark, number of the exchange, sender, bytes a number, rows, numbers a row
MARK = b"dsgd/1\0\0"


class MessageError(RuntimeError):
    """What arrived is not the message that was due."""


class Message:
    """Room for rows (count, d) of the dtype of `like`, behind a header, in one contiguous buffer `raw` of bytes.

    Its size follows from what this place itself knows of W, never from what a peer claims.
    """

    def __init__(self, count: int, like: Tensor, device: torch.device | str = "cpu") -> None:
        import torch

        self.raw = torch.empty(
            HEADER + count * like.shape[1] * like.element_size(),
            dtype=torch.uint8,
            device=device,
            pin_memory=like.is_cuda and str(device) == "cpu",
        )
        self.rows = self.raw[HEADER:].view(like.dtype).view(count, like.shape[1])

    def mark(self, number: int, sender: int) -> None:
        """Writes the header, where the buffer lies on the CPU."""
        if not self.raw.is_cuda:
            self.raw.numpy()[: FIELDS.size] = memoryview(self._header(number, sender))

    def check(self, number: int, sender: int) -> None:
        """MessageError unless the header is that of the message due."""
        if self.raw.is_cuda:
            return
        found, due = self.raw.numpy()[: FIELDS.size].tobytes(), self._header(number, sender)
        if found != due:
            raise MessageError(f"place {sender} sent {_told(found)}, due was {_told(due)}")

    def _header(self, number: int, sender: int) -> bytes:
        return FIELDS.pack(MARK, number, sender, self.rows.element_size(), *self.rows.shape)


def _told(header: bytes) -> str:
    mark, number, sender, itemsize, count, d = FIELDS.unpack(header)
    if mark != MARK:
        return f"bytes that are no message of dsgd ({header[:8]!r}...)"
    return f"exchange {number} from place {sender}, {count} rows of {d} numbers of {itemsize} bytes"
