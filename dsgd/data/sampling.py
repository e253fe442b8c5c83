"""Which examples are in each replica's mini-batch: positions in endless, keyed, reshuffled passes, never a state.

The indices are a pure function of (seed, partition, n, batch size, step), whatever steps were asked for before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dsgd.randomness import Key, generator
from topologies.arguments import KnobError, about

if TYPE_CHECKING:
    from dsgd.data.examples import Labels
    from dsgd.data.partition import Indices, Partition

CHUNK_STEPS = 64
CHUNK_INDICES = 2**20
BLOCK = 1024


def reshuffled_passes(size: int, start: int, stop: int, seed: int, *key: Key) -> Indices:
    """Positions `start` to `stop` of endless passes over range(size), every pass shuffled anew."""
    passes = max(1, BLOCK // size)  # short passes are drawn many at a time: a generator costs 15 microseconds
    first, last = start // (passes * size), -(-stop // (passes * size))
    entries = np.tile(np.arange(size), (passes, 1))
    blocks = [generator(seed, *key, block).permuted(entries, axis=1).ravel() for block in range(first, last)]
    return np.concatenate(blocks)[start - first * passes * size : stop - first * passes * size]


@dataclass(frozen=True, eq=False)
class Sampler:
    """The mini-batches of n replicas out of `examples` training examples; made by `sampler`, which checks the sizes.

    `shards` are the replicas' own indices, or None: then sample k of the one stream is dealt to step k // (n * B),
    replica k // B mod n. With shards, replica j's own stream gives its step t the positions t * B to (t + 1) * B.
    """

    examples: int
    shards: tuple[Indices, ...] | None
    n: int
    batch_size: int
    seed: int
    _latest: dict[int, Indices] = field(default_factory=dict, init=False, repr=False)

    @property
    def chunk_steps(self) -> int:
        """Steps in a chunk: 64, or fewer where that would be more than a million indices."""
        return max(1, min(CHUNK_STEPS, CHUNK_INDICES // (self.n * self.batch_size)))

    def indices(self, step: int) -> Indices:
        """The training examples of step `step`, shape (n, batch_size); a view into the chunk's table."""
        chunk, row = divmod(step, self.chunk_steps)
        mini_batches: Indices = self.table(chunk)[row]
        return mini_batches

    def table(self, chunk: int) -> Indices:
        """The indices of chunk_steps steps from chunk * chunk_steps on, shape (chunk_steps, n, batch_size).

        The latest table is kept, so that a step costs a look-up: do not write into it.
        """
        table = self._latest.get(chunk)
        if table is None:
            table = _drawn(self, chunk * self.chunk_steps, (chunk + 1) * self.chunk_steps)
            self._latest.clear()
            self._latest[chunk] = table
        return table


def _drawn(source: Sampler, start: int, stop: int) -> Indices:
    """The indices of the steps `start` to `stop`, shape (steps, n, batch_size)."""
    n, B = source.n, source.batch_size
    if source.shards is None:
        stream = reshuffled_passes(source.examples, start * n * B, stop * n * B, source.seed, "batches", "shared")
        return stream.reshape(-1, n, B)
    columns = [
        shard[reshuffled_passes(len(shard), start * B, stop * B, source.seed, "batches", replica)].reshape(-1, B)
        for replica, shard in enumerate(source.shards)
    ]
    return np.stack(columns, axis=1)


def sampler(partition: Partition, y: Labels, n: int, batch_size: int | None, seed: int) -> Sampler:
    """The mini-batches of n replicas with training labels `y`; batch_size None takes all a replica has at every step.

    ValueError if a batch is larger than what a replica draws from, if full batches would differ in size, or if the
    partition refuses; its `knob` is that of a run.
    """
    if n < 1:
        raise KnobError("topology.n", f"n={n} replicas is not possible: give at least 1.")
    with about("task.partition"):
        shards = partition.shards(y, n, seed)
    sizes = [len(y)] * n if shards is None else [len(shard) for shard in shards]
    if batch_size is None:
        batch_size = _full_batch(sizes)
    _check_batch_size(batch_size, sizes, shared=shards is None)
    return Sampler(len(y), shards, n, batch_size, seed)


def _full_batch(sizes: list[int]) -> int:
    if min(sizes) != max(sizes):
        raise KnobError(
            "batch_size",
            f"Full batches need shards of one size, but these have {min(sizes)} to {max(sizes)} training examples: "
            "give a batch_size, or use the shards or iid partition.",
        )
    return sizes[0]


def _check_batch_size(batch_size: int, sizes: list[int], shared: bool) -> None:
    smallest = min(sizes)
    if 1 <= batch_size <= smallest:
        return
    if batch_size < 1 <= smallest:
        raise KnobError("batch_size", f"batch_size={batch_size} is not possible: give 1 to {smallest}.")
    if shared:
        raise KnobError(
            "batch_size", f"batch_size={batch_size} is larger than the training set: give at most {smallest}."
        )
    replica = sizes.index(smallest)
    raise KnobError(
        "batch_size",
        f"batch_size={batch_size} does not fit replica {replica}'s shard of size {smallest}, the smallest of "
        f"{len(sizes)}: give a smaller batch_size, fewer replicas, or a partition with larger shards "
        "(dirichlet has min_partition_size, iid has no shards).",
    )
