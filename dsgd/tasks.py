"""A task is a data set and how its training examples are shared out; `Feed` turns it into objectives, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from dsgd.data import DATASETS, DataSource, Digits, Iid, Partition, Sampler
from dsgd.objectives import Batch, Network

if TYPE_CHECKING:
    from torch import Tensor

TASKS = DATASETS


@dataclass(frozen=True)
class Task:
    """What is learnt, and from which share of the data each replica learns it."""

    data: DataSource = field(default_factory=Digits)
    partition: Partition = field(default_factory=Iid)


class Feed:
    """The mini-batches of the replicas numbered `rows`, gathered from training examples that lie on the device."""

    def __init__(self, network: Network, x: Tensor, y: Tensor, sampler: Sampler, rows: tuple[int, ...]) -> None:
        self.network, self.x, self.y = network, x, y
        self.sampler, self.rows = sampler, rows
        self._latest: tuple[int, Tensor] | None = None

    def of(self, rows: Iterable[int]) -> Feed:
        """The mini-batches of other replicas of the same run."""
        return Feed(self.network, self.x, self.y, self.sampler, tuple(rows))

    def batch(self, step: int) -> Batch:
        """Each replica's mini-batch of this step; where it is the whole shared train set, that is not copied."""
        if self.sampler.shards is None and self.sampler.batch_size == self.sampler.examples:
            return Batch(self.network, self.x, self.y, shared=True, counts=self.class_counts)
        indices = self._indices(step)
        return Batch(self.network, _rows(self.x, indices), _rows(self.y, indices), counts=self.class_counts)

    def class_counts(self, of: str) -> Tensor:
        """Training examples of each class: of all (1, classes), or for "local" of each row's share (rows, classes)."""
        return self._own_counts if of == "local" and self.sampler.shards is not None else self._all_counts

    @cached_property
    def _all_counts(self) -> Tensor:
        return self.y.bincount()[None]

    @cached_property
    def _own_counts(self) -> Tensor:
        import torch

        assert self.sampler.shards is not None
        classes = self._all_counts.shape[1]
        shares = [torch.from_numpy(self.sampler.shards[row]).to(self.y.device) for row in self.rows]
        return torch.stack([self.y[share].bincount(minlength=classes) for share in shares])

    def _indices(self, step: int) -> Tensor:
        """Indices (rows, B) on the device, moved there a chunk of steps at a time."""
        import torch

        chunk, row = divmod(step, self.sampler.chunk_steps)
        if self._latest is None or self._latest[0] != chunk:
            table = self.sampler.table(chunk)[:, list(self.rows)]
            self._latest = chunk, torch.from_numpy(table).to(self.x.device)
        return self._latest[1][row]


def _rows(table: Tensor, indices: Tensor) -> Tensor:
    """table[indices], by the one call that copies whole rows: four times as quick as indexing."""
    return table.index_select(0, indices.flatten()).view(*indices.shape, *table.shape[1:])
