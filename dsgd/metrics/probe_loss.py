"""The training loss around one model of a snapshot, in float64: what curvature and sharpness look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dsgd.curvature import Hessian, Loss
from dsgd.metrics.metric import Snapshot, Split
from dsgd.objectives import Batch, Network
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES_AT_ONCE = 2048  # in one part of the loss, and of a model of many parameters, as a ResNet, fewer:
EXAMPLES_TIMES_NUMBERS = 2**28
LEAST_EXAMPLES = 32
ACTIVATIONS_AT_ONCE = 2**15  # examples times points
NUMBERS_AT_ONCE = 2**24  # in a block of points


@dataclass(frozen=True)
class ProbeLoss:
    """The mean loss on the examples of `split` as a function of d parameters, and the model at `point` (d,).

    `network` is as the model is judged, `own` the layout of its parameters; `statistics` (numbers,) are its running
    ones, held fixed, of no length without batch normalisation. Work is linear in the number of examples, and memory
    does not grow with it.
    """

    network: Network
    own: Layout
    split: Split
    point: Tensor
    statistics: Tensor

    @cached_property
    def parts(self) -> tuple[Loss, ...]:
        """Functions (d,) -> scalar whose sum is the mean loss."""

        def part_of(batch: Split) -> Loss:
            return lambda row: self._losses_at(row, batch.x, batch.y).sum() / len(self.split.y)

        return tuple(part_of(batch) for batch in self._batches())

    @cached_property
    def hessian(self) -> Hessian:
        """The Hessian at the model."""
        return Hessian(self.parts, self.point)

    def losses(self, rows: Tensor) -> Tensor:
        """The mean loss at each of `rows` (k, d), shape (k,)."""
        import torch

        def of(points: Params) -> Tensor:
            with torch.no_grad():
                return sum((batch.losses(points).sum(dim=1) for batch in self._shared()), self.point.new_zeros(()))

        return torch.cat([of(points) for points in self._points(rows)]) / len(self.split.y)

    def gradients(self, rows: Tensor) -> Tensor:
        """The gradient of the mean loss at each of `rows` (k, d), shape (k, d)."""
        import torch
        from torch.func import grad

        if len(self.statistics):  # the kernels would differentiate by them, which torch refuses
            return torch.stack([torch.stack([grad(part)(row) for part in self.parts]).sum(dim=0) for row in rows])

        def of(points: Params) -> Tensor:
            grads = (batch.loss_and_grad(points)[1].matrix * len(batch.y) for batch in self._shared())
            return sum(grads, self.point.new_zeros(()))

        return torch.cat([of(points) for points in self._points(rows)]) / len(self.split.y)

    def squared_gradient_norms(self) -> Tensor:
        """|gradient of one example's loss|^2 at the model for each example, shape (N,)."""
        from torch.func import grad, vmap

        def loss(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return self._losses_at(row, x[None], y[None])[0]

        def norm(x: Tensor, y: Tensor) -> Tensor:
            found: Tensor = grad(loss)(self.point, x, y).square().sum()
            return found

        at_once = max(1, min(self._part, NUMBERS_AT_ONCE // len(self.point)))
        norms: Tensor = vmap(norm, chunk_size=at_once)(self.split.x, self.split.y)
        return norms

    def _losses_at(self, row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Each example's loss at parameters `row` (d,)."""
        return self.network.criterion_of(self.outputs_at(row, x), y)

    def outputs_at(self, row: Tensor, x: Tensor) -> Tensor:
        """Each example's outputs at parameters `row` (d,)."""
        import torch
        from torch.func import functional_call

        numbers = torch.cat([self.point, self.statistics])
        fixed = {} if not len(self.statistics) else self.network.layout.leaves(numbers)
        outputs: Tensor = functional_call(self.network.module, fixed | self.own.leaves(row), (x,))
        return outputs

    @property
    def _block(self) -> int:
        """Points that are looked at together."""
        return max(
            1, min(ACTIVATIONS_AT_ONCE // min(self._part, len(self.split.y)), NUMBERS_AT_ONCE // len(self.point))
        )

    @property
    def _part(self) -> int:
        """Examples that are looked at together."""
        return min(EXAMPLES_AT_ONCE, max(LEAST_EXAMPLES, EXAMPLES_TIMES_NUMBERS // len(self.point)))

    def _batches(self) -> Iterator[Split]:
        for start in range(0, len(self.split.y), self._part):
            part = slice(start, start + self._part)
            yield Split(self.split.x[part], self.split.y[part])

    def _shared(self) -> Iterator[Batch]:
        return (Batch(self.network, batch.x, batch.y, shared=True) for batch in self._batches())

    def _points(self, rows: Tensor) -> Iterator[Params]:
        import torch

        for block in rows.split(self._block):
            yield Params(torch.cat([block, self.statistics.expand(len(block), -1)], dim=1), self.network.layout)


def probe_losses(snapshot: Snapshot, examples: int) -> dict[str, ProbeLoss]:
    """The loss on the first `examples` training examples around the mean model, named "", and around each twin."""
    judged, d = snapshot.judged(), snapshot.network.layout.d
    head = snapshot.train.head(examples)
    split = Split(head.x.double(), head.y)

    def around(p: Params) -> ProbeLoss:
        row = p.matrix[0].double()
        return ProbeLoss(judged.network, snapshot.network.layout, split, row[:d], row[d:])

    return {"": around(judged.mean)} | {name: around(twin) for name, twin in judged.twins.items()}


def replica_losses(snapshot: Snapshot, examples: int) -> list[ProbeLoss]:
    """The loss around each replica, on the first `examples` of its own training examples, or of all that they share."""
    judged, d = snapshot.judged(), snapshot.network.layout.d

    def split_of(replica: int) -> Split:
        if snapshot.shards is None:
            return snapshot.train.head(examples)
        own = snapshot.shards[replica][:examples]
        return Split(snapshot.train.x[own], snapshot.train.y[own])

    splits = [split_of(replica) for replica in range(judged.replicas.rows)]
    return [
        ProbeLoss(judged.network, snapshot.network.layout, Split(split.x.double(), split.y), row[:d], row[d:])
        for split, row in zip(splits, judged.replicas.matrix.double(), strict=True)
    ]


def named(prefix: str, name: str) -> str:
    """A value's name: a twin's carry its own before them."""
    return f"{prefix}_{name}" if prefix else name
