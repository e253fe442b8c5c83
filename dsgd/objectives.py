"""One replica's loss on one mini-batch, evaluated for all replicas at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from dsgd.kernels import Criterion, Network, network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "Network", "Objective", "Tilted", "network"]


class Objective(Protocol):
    """What a gradient method may ask; `rows` is the number of rows of `p`, B the mini-batch.

    `logits(p)` (rows, B, classes); `losses(p)` (rows, B); `loss(p)` (rows,);
    `loss_and_grad(p, weights)` the weighted sum of the B losses, weights (rows, B), by default their mean.
    `class_counts(of)` how many training examples each class has, (1, classes) "global"ly or (rows, classes) in each
    replica's "local" share. Others like it: `part` of its examples, `noised` by numbers (rows, B, *noise_shape) added
    to its inputs, or to what tokens are embedded in, `under` another loss of the outputs. `statistics(p)` are the
    mini-batch's own for batch normalisation, (rows, numbers).
    """

    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def noise_shape(self) -> tuple[int, ...]: ...
    def logits(self, p: Params) -> Tensor: ...
    def losses(self, p: Params) -> Tensor: ...
    def loss(self, p: Params) -> Tensor: ...
    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]: ...
    def joint(self) -> Objective: ...
    def part(self, start: int, stop: int) -> Objective: ...
    def noised(self, noise: Tensor) -> Objective: ...
    def under(self, criterion: Criterion) -> Objective: ...
    def class_counts(self, of: str) -> Tensor: ...
    def statistics(self, p: Params) -> Tensor: ...


@dataclass(frozen=True)
class Batch:
    """Losses of a network on examples x (rows, B, ...), y (rows, B); `shared`: x (B, ...), y (B,) for every row.

    `counts` are the class counts of the data from which they are drawn.
    """

    network: Network
    x: Tensor
    y: Tensor
    shared: bool = False
    counts: Callable[[str], Tensor] | None = None

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the noise that one example's inputs take."""
        return self.network.noise_shape(tuple(self.x.shape[1 if self.shared else 2 :]))

    def logits(self, p: Params) -> Tensor:
        return self.network.kernels.logits(p, self.x, self.shared)

    def losses(self, p: Params) -> Tensor:
        y = self.y.expand(p.rows, -1) if self.shared else self.y
        return self.network.criterion_of(self.logits(p), y)

    def loss(self, p: Params) -> Tensor:
        return self.losses(p).mean(dim=1)

    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]:
        loss, grads = self.network.kernels.loss_and_grad(p, self.x, self.y, self.shared, weights)
        return loss, p.like(grads)

    def at_worst(self, p: Params, rho: float) -> tuple[Tensor, Params] | None:
        """What `at_worst` says, for one example a row where the kernels know it in closed form."""
        of_one = getattr(self.network.kernels, "at_worst", None)
        if of_one is None or self.shared or self.y.shape[1] > 1:
            return None
        loss, grads = of_one(p, self.x, self.y, rho)
        return loss, p.like(grads)

    def joint(self) -> Batch:
        """All replicas' examples as one mini-batch shared by every row."""
        counts = partial(_in_all, self.counts) if self.counts else None
        x, y = (self.x, self.y) if self.shared else (self.x.flatten(0, 1), self.y.flatten(0, 1))
        return Batch(self.network, x, y, True, counts)

    def part(self, start: int, stop: int) -> Batch:
        """The examples from `start` to before `stop` of each row."""
        part = slice(start, stop) if self.shared else (slice(None), slice(start, stop))
        return replace(self, x=self.x[part], y=self.y[part])

    def noised(self, noise: Tensor) -> Batch:
        """The same labels at inputs with noise (rows, B, *noise_shape)."""
        x = self.network.noised(self.x, noise)
        return replace(self, x=x, y=self.y.expand(x.shape[:2]), shared=False)

    def under(self, criterion: Criterion) -> Batch:
        """The same examples under another loss of the outputs."""
        return replace(self, network=self.network.under(criterion))

    def class_counts(self, of: str) -> Tensor:
        """Training examples of each class, in all (1, classes) or each row's own (rows, classes)."""
        if self.counts is None:
            raise ValueError("the objective does not know how many training examples each class has")
        return self.counts(of)

    def statistics(self, p: Params) -> Tensor:
        """The mini-batch's mean and variance before each layer of batch normalisation."""
        return self.network.statistics(p, self.x, self.shared)


def _in_all(counts: Callable[[str], Tensor], of: str) -> Tensor:
    return counts("global")


def at_worst(objective: Objective, p: Params, rho: float) -> tuple[Tensor, Params] | None:
    """The loss at p (rows,) and the gradient at p + rho g / |g|, g that at p; None: two gradients are the way to it."""
    return objective.at_worst(p, rho) if isinstance(objective, Batch) else None


@dataclass(frozen=True)
class Tilted:
    """An objective plus the linear term <noise, w>: every gradient gains additive noise (rows, d) or (1, d)."""

    inner: Objective
    noise: Tensor

    @property
    def x(self) -> Tensor:
        return self.inner.x

    @property
    def y(self) -> Tensor:
        return self.inner.y

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.inner.noise_shape

    def logits(self, p: Params) -> Tensor:
        return self.inner.logits(p)

    def losses(self, p: Params) -> Tensor:
        return self.inner.losses(p)

    def loss(self, p: Params) -> Tensor:
        return self.inner.loss(p)

    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]:
        loss, grads = self.inner.loss_and_grad(p, weights)
        share = self.noise if weights is None else self.noise * weights.sum(dim=1, keepdim=True)
        return loss, grads.like(grads.matrix.add_(share))  # the gradient is new and its own

    def joint(self) -> Tilted:
        """The joint mini-batch, with the replicas' mean noise."""
        return Tilted(self.inner.joint(), self.noise.mean(dim=0, keepdim=True))

    def part(self, start: int, stop: int) -> Tilted:
        return replace(self, inner=self.inner.part(start, stop))

    def noised(self, noise: Tensor) -> Tilted:
        return replace(self, inner=self.inner.noised(noise))

    def under(self, criterion: Criterion) -> Tilted:
        return replace(self, inner=self.inner.under(criterion))

    def class_counts(self, of: str) -> Tensor:
        return self.inner.class_counts(of)

    def statistics(self, p: Params) -> Tensor:
        return self.inner.statistics(p)
