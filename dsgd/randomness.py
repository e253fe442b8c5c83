"""Random streams keyed by (seed, purpose, step, replica, ...), so a draw never depends on what was drawn before it.

A result then does not depend on the backend, on how replicas are sharded, or on a restart: resuming needs no
generator state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from topologies.randomness import Key, generator, stream_key

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Key", "Row", "generator", "normal", "normal_rows", "stream_key"]

Row = tuple[int, int]  # of an ensemble: the run's seed, and the replica's number


def normal(shape: Sequence[int], seed: int, *path: Key) -> Tensor:
    """Standard normal numbers from one stream, in float64 and on the CPU: the same on every device."""
    import torch

    return torch.from_numpy(generator(seed, *path).standard_normal(tuple(shape)))


def normal_rows(matrix: Tensor, rows: Sequence[Row], *path: Key) -> Tensor:
    """Standard normal noise like `matrix` (len(rows), d), each row from its own stream keyed by its seed and replica.

    A replica's row is the same whichever other rows are drawn beside it. CPU and CUDA streams differ.
    """
    import torch

    noise = torch.empty_like(matrix)
    stream = torch.Generator(device=matrix.device)
    for row, (seed, replica) in enumerate(rows):
        stream.manual_seed(stream_key(seed, *path, replica))
        noise[row].normal_(generator=stream)
    return noise
