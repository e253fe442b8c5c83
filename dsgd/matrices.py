"""Memory for matrices of the ensemble's size: a large one lies where an earlier one of its size lay.

A step makes and drops a few of them. Left to the C library, their holes would be taken in part by mini-batches and
activations, so that by chance a run holds one ensemble more, or several.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Block = np.ndarray[tuple[int], np.dtype[np.uint8]]

ALIGNMENT = 64  # bytes, a cache line
LARGE = 2**20  # bytes; below, a hole more or less is nothing
KEPT = 8  # blocks at most: as many matrices as a step drops, those of its optimizer included

_FREED: dict[int, list[Block]] = {}  # by size; only of the size that was asked for last


def new_matrix(rows: int, like: Tensor) -> Tensor:
    """An uninitialised matrix (rows, d) of the dtype and on the device of `like` (..., d).

    On the CPU the memory is NumPy's, which asks for huge pages.
    """
    import torch

    d = like.shape[-1]
    if like.is_cuda:
        return like.new_empty(rows, d)
    size = rows * d * like.element_size()
    block = _block(size + ALIGNMENT)
    start = -block.ctypes.data % ALIGNMENT
    place = block[start : start + size]
    if block.size >= LARGE:
        # Torch holds this very array as long as a tensor lies there; NumPy's views of it would hold the block alone.
        weakref.finalize(place, _take_back, block).atexit = False
    return torch.from_numpy(place).view(like.dtype).view(rows, d)


def forget_freed() -> None:
    """Gives the memory back that is kept for the next matrices."""
    _FREED.clear()


def _block(size: int) -> Block:
    import numpy as np

    if size >= LARGE:
        if size not in _FREED:
            _FREED.clear()
        freed = _FREED.setdefault(size, [])
        with suppress(IndexError):
            return freed.pop()
    return np.empty(size, dtype=np.uint8)


def _take_back(block: Block) -> None:
    freed = _FREED.get(block.size)
    if freed is not None and len(freed) < KEPT:
        freed.append(block)
