"""Random streams keyed by (seed, purpose, step), so a draw never depends on what was drawn before it."""

from __future__ import annotations

import hashlib

import numpy as np

Key = int | str


def stream_key(seed: int, *path: Key) -> int:
    """A 63-bit integer that is a fixed, well-mixed function of `seed` and `path`."""
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *path: Key) -> np.random.Generator:
    """The counter-based NumPy generator (Philox) of one stream."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *path)))
