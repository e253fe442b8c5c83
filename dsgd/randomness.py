"""Random streams keyed by (seed, purpose, step, replica, ...), so a draw never depends on what was drawn before it.

A result then does not depend on the backend, on how replicas are sharded, or on a restart: resuming needs no
generator state.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Key = int | str


def stream_key(seed: int, *path: Key) -> int:
    """A 63-bit integer that is a fixed, well-mixed function of `seed` and `path`."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: Key) -> np.random.Generator:
    """The counter-based NumPy generator (Philox) of one stream; one call draws for all replicas at once."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *path)))


def normal_rows(matrix: Tensor, seed: int, rows: tuple[int, ...], *path: Key) -> Tensor:
    """Standard normal noise like `matrix` (len(rows), d), each row from its own stream keyed by its replica's number.

    A replica's row is the same whichever other rows are drawn beside it. CPU and CUDA streams differ.
    """
    import torch

    noise = torch.empty_like(matrix)
    stream = torch.Generator(device=matrix.device)
    for row, replica in enumerate(rows):
        stream.manual_seed(stream_key(seed, *path, replica))
        noise[row].normal_(generator=stream)
    return noise
