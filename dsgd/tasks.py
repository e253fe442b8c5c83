"""A task is a data set and how its training examples are shared out; `Feed` turns it into objectives, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from dsgd.data import DATASETS, DataSet, DataSource, Digits, Iid, Partition, Sampler
from dsgd.kernels.sim_bn import normalise_by
from dsgd.models import Model
from dsgd.objectives import Batch, Network

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

TASKS = DATASETS


@dataclass(frozen=True)
class Task:
    """What is learnt, and from which share of the data each replica learns it."""

    data: DataSource = field(default_factory=Digits)
    partition: Partition = field(default_factory=Iid)


def module_for(model: Model, data: DataSet) -> nn.Module:
    """The model for a data set's examples; one that normalises by training inputs has these."""
    import torch

    module = model.build(data.train.shape, data.outputs)
    normalise_by(module, torch.from_numpy(data.train.x))
    return module


def outputs_of(module: nn.Module, x: npt.NDArray[Any]) -> tuple[int, ...] | str:
    """The shape of the module's outputs for inputs x, or the type of what is no tensor; its state stays as it was."""
    import torch

    leaf = next(module.parameters(), torch.empty(0))
    modes = {each: each.training for each in module.modules()}
    try:
        with torch.no_grad():
            found = module.eval()(torch.from_numpy(x).to(leaf.device, leaf.dtype))
    finally:
        for each, training in modes.items():
            each.training = training
    return tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__


class Feed:
    """The mini-batches of the replicas numbered `rows`, gathered from training examples that lie on the device."""

    def __init__(self, network: Network, x: Tensor, y: Tensor, sampler: Sampler, rows: tuple[int, ...]) -> None:
        self.network, self.x, self.y = network, x, y
        self.sampler, self.rows = sampler, rows
        self._latest: tuple[int, Tensor] | None = None

    def of(self, rows: Iterable[int]) -> Feed:
        """The mini-batches of other replicas of the same run."""
        return Feed(self.network, self.x, self.y, self.sampler, tuple(rows))

    @property
    def takes_all(self) -> bool:
        """Whether each mini-batch is the whole shared train set."""
        return self.sampler.shards is None and self.sampler.batch_size == self.sampler.examples

    def batch(self, step: int) -> Batch:
        """Each replica's mini-batch of this step; where it is the whole shared train set, that is not copied."""
        if self.takes_all:
            return Batch(self.network, self.x, self.y, shared=True, counts=self.class_counts)
        return Batch(self.network, *self.examples(step), counts=self.class_counts)

    def examples(self, step: int) -> tuple[Tensor, Tensor]:
        """Each replica's inputs (rows, B, ...) and labels (rows, B) of this step."""
        indices = self._indices(step)
        return _rows(self.x, indices), _rows(self.y, indices)

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


class Feeds:
    """The mini-batches of several feeds one below the other, gathered in one call."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        import torch

        places = {id(feed.x): feed for feed in feeds}  # many may draw from one train set
        self.x, self.y = feeds[0].x, feeds[0].y
        if len(places) > 1:
            self.x, self.y = (torch.cat([getattr(feed, part) for feed in places.values()]) for part in ("x", "y"))
        starts = dict(zip(places, accumulate((len(feed.y) for feed in places.values()), initial=0), strict=False))
        self.feeds = [(feed, starts[id(feed.x)]) for feed in feeds]
        self._latest: tuple[int, Tensor] | None = None

    def examples(self, step: int) -> tuple[Tensor, Tensor]:
        """Each row's inputs (rows, B, ...) and labels (rows, B) of this step."""
        chunk, row = divmod(step, self.feeds[0][0].sampler.chunk_steps)
        if self._latest is None or self._latest[0] != chunk:
            self._latest = chunk, self._table(chunk)
        indices = self._latest[1][row]
        return _rows(self.x, indices), _rows(self.y, indices)

    def _table(self, chunk: int) -> Tensor:
        import torch

        tables = [feed.sampler.table(chunk)[:, list(feed.rows)] + start for feed, start in self.feeds]
        return torch.from_numpy(np.concatenate(tables, axis=1)).to(self.x.device)


def _rows(table: Tensor, indices: Tensor) -> Tensor:
    """table[indices], by the one call that copies whole rows: four times as quick as indexing."""
    return table.index_select(0, indices.flatten()).view(*indices.shape, *table.shape[1:])
