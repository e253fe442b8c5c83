"""Which rows pass between the places that hold replicas when W is applied once: those that its sparsity asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsgd.mixing import Neighbours
from topologies import MixingMatrix

Blocks = Sequence[Sequence[int]]  # the replicas that each place holds, ascending


@dataclass(frozen=True, eq=False)
class FromPeer:
    """What one place hears from a peer: `others` (touched, received) is applied to the rows received from it.

    The result is added to the rows `touched` of those held here.
    """

    touched: np.ndarray
    others: Neighbours


@dataclass(frozen=True, eq=False)
class Exchange:
    """One place's part in W: which of the rows held here each peer is sent, once each, and what it makes of all rows.

    `here` (rows, rows) is applied to the rows held here.
    """

    here: Neighbours
    sends: dict[int, np.ndarray]
    receives: dict[int, FromPeer]


def exchange(w: MixingMatrix, blocks: Blocks, me: int) -> Exchange:
    """The part in W of the place `me` when place k holds the replicas `blocks[k]`."""
    csr = w.sparse()
    owner, place = np.empty(w.n, dtype=np.int64), np.empty(w.n, dtype=np.int64)
    for k, block in enumerate(blocks):
        owner[list(block)], place[list(block)] = k, np.arange(len(block))

    def part(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row among those of place k, replica heard and weight of each entry of its rows."""
        entries = csr[list(blocks[k])].tocoo()
        order = np.lexsort((entries.col, entries.row))
        order = order[entries.data[order] != 0]
        return entries.row[order].astype(np.int64), entries.col[order].astype(np.int64), entries.data[order]

    rows, columns, weights = part(me)
    held, peers = len(blocks[me]), [k for k in range(len(blocks)) if k != me]
    mine = owner[columns] == me
    here = _neighbours(rows[mine], place[columns[mine]], weights[mine], held, held)
    receives = {}
    for k in peers:
        theirs = owner[columns] == k
        if theirs.any():
            sources, source = np.unique(columns[theirs], return_inverse=True)
            touched, row = np.unique(rows[theirs], return_inverse=True)
            others = _neighbours(row, source, weights[theirs], len(touched), len(sources))
            receives[k] = FromPeer(touched, others)
    asked = {k: np.unique(heard[owner[heard] == me]) for k in peers for heard in [part(k)[1]]}
    return Exchange(here, {k: place[replicas] for k, replicas in asked.items() if len(replicas)}, receives)


def _neighbours(rows: np.ndarray, sources: np.ndarray, weights: np.ndarray, height: int, n: int) -> Neighbours:
    """The matrix (height, n) with these entries, ordered by rows."""
    starts = np.searchsorted(rows, np.arange(height + 1)).astype(np.int64)
    return Neighbours(starts, sources.astype(np.int64), weights.astype(np.float64), n)
