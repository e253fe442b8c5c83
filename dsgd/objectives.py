"""One replica's loss on one mini-batch, evaluated for all replicas at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dsgd.kernels import Network, network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "Network", "Objective", "Tilted", "network"]


class Objective(Protocol):
    """What a gradient method may ask; `rows` is the number of rows of `p`, B the mini-batch.

    `logits(p)` (rows, B, classes); `losses(p)` (rows, B); `loss(p)` (rows,);
    `loss_and_grad(p, weights)` the weighted sum of the B losses, weights (rows, B), by default their mean.
    """

    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    def logits(self, p: Params) -> Tensor: ...
    def losses(self, p: Params) -> Tensor: ...
    def loss(self, p: Params) -> Tensor: ...
    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]: ...
    def joint(self) -> Objective: ...


@dataclass(frozen=True)
class Batch:
    """Losses of a network on examples x (rows, B, ...), y (rows, B); `shared`: x (B, ...), y (B,) for every row."""

    network: Network
    x: Tensor
    y: Tensor
    shared: bool = False

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

    def joint(self) -> Batch:
        """All replicas' examples as one mini-batch shared by every row."""
        return self if self.shared else Batch(self.network, self.x.flatten(0, 1), self.y.flatten(0, 1), shared=True)


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
