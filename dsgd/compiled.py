"""The loop over columns, rows and neighbours by which a large ensemble is mixed, compiled by numba (extra `fast`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np


@cache
def compiled_loop() -> Callable[..., None]:
    """`mix_columns` as machine code, made at first use and kept on disk where there is a place for it."""
    from numba import njit

    try:
        return njit(cache=True, nogil=True, fastmath={"contract"})(mix_columns)
    except RuntimeError:  # no folder that can be written
        return njit(nogil=True, fastmath={"contract"})(mix_columns)


def mix_columns(
    starts: np.ndarray,
    sources: np.ndarray,
    weights: np.ndarray,
    matrix: np.ndarray,
    added: np.ndarray,
    out: np.ndarray,
    factor: float,
    adds: bool,
    first: int,
    stop: int,
    columns: int,
) -> None:
    """out = W matrix + factor * added (or without, unless `adds`) in the columns from `first` to `stop`.

    W in the form of its CSR arrays. `columns` are taken at a time, so that a row's sum stays in the cache.
    """
    for low in range(first, stop, columns):
        high = min(stop, low + columns)
        for i in range(len(starts) - 1):
            to, e, end = out[i, low:high], starts[i], starts[i + 1]
            if adds and e < end:
                g, a, u = added[i, low:high], matrix[sources[e], low:high], weights[e]
                for k in range(high - low):
                    to[k] = factor * g[k] + u * a[k]
                e += 1
            elif adds:
                g = added[i, low:high]
                for k in range(high - low):
                    to[k] = factor * g[k]
            else:
                to[:] = 0
            while e + 1 < end:
                a, b = matrix[sources[e], low:high], matrix[sources[e + 1], low:high]
                u, v = weights[e], weights[e + 1]
                for k in range(high - low):
                    to[k] += u * a[k] + v * b[k]
                e += 2
            if e < end:
                a, u = matrix[sources[e], low:high], weights[e]
                for k in range(high - low):
                    to[k] += u * a[k]
