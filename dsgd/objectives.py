"""One replica's loss on one mini-batch, evaluated for all replicas at once.

`Batch` is the general form: `torch.func.vmap` over the replicas' rows, for any `nn.Module` without in-place state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor, nn

ROW_BLOCK = 2**16  # examples in flight at once in one vmap: bounds activations, keeps them near the cache


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
class Network:
    """A module as a function of one row of d numbers, and the loss of its outputs.

    `criterion` is "cross_entropy", or "output" where the module's output is itself the loss.
    """

    module: nn.Module
    layout: Layout
    criterion: str = "cross_entropy"

    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Outputs (B, classes) at parameters `row` (d,) for inputs `x` (B, ...)."""
        from torch.func import functional_call

        out: Tensor = functional_call(self.module, self.layout.leaves(row), (x,))
        return out

    def losses(self, row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Per-example losses (B,)."""
        from torch.nn.functional import cross_entropy

        out = self.logits(row, x)
        return out if self.criterion == "output" else cross_entropy(out, y, reduction="none")


def network(module: nn.Module, criterion: str) -> Network:
    """The `Network` over a module's trainable parameters, in the module's own order."""
    shapes = {name: tuple(leaf.shape) for name, leaf in module.named_parameters()}
    return Network(module, Layout(tuple(shapes), tuple(shapes.values())), criterion)


@dataclass(frozen=True)
class Batch:
    """Losses of a network on examples x (rows, B, ...), y (rows, B); `shared`: x (B, ...), y (B,) for every row."""

    network: Network
    x: Tensor
    y: Tensor
    shared: bool = False

    def logits(self, p: Params) -> Tensor:
        return self._map(self.network.logits, p, self.x)

    def losses(self, p: Params) -> Tensor:
        return self._map(self.network.losses, p, self.x, self.y)

    def loss(self, p: Params) -> Tensor:
        return self.losses(p).mean(dim=1)

    def loss_and_grad(self, p: Params, weights: Tensor | None = None) -> tuple[Tensor, Params]:
        from torch.func import grad_and_value

        def total(row: Tensor, x: Tensor, y: Tensor, *w: Tensor) -> Tensor:
            losses = self.network.losses(row, x, y)
            return (losses * w[0]).sum() if w else losses.mean()

        extra = () if weights is None else (weights,)
        grad, loss = self._map(grad_and_value(total), p, self.x, self.y, *extra)
        return loss, p.like(grad)

    def joint(self) -> Batch:
        """All replicas' examples as one mini-batch shared by every row."""
        return self if self.shared else Batch(self.network, self.x.flatten(0, 1), self.y.flatten(0, 1), shared=True)

    def _map(self, function: Any, p: Params, *arguments: Tensor) -> Any:
        from torch.func import vmap

        data = None if self.shared else 0
        axes = (0, *(data if i < 2 else 0 for i in range(len(arguments))))
        block = max(1, ROW_BLOCK // max(1, self.x.shape[0 if self.shared else 1]))
        return vmap(function, in_dims=axes, chunk_size=block if block < p.rows else None)(p.matrix, *arguments)


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
        share = 1.0 if weights is None else weights.sum(dim=1, keepdim=True)
        return loss, grads.like(grads.matrix + self.noise * share)

    def joint(self) -> Tilted:
        """The joint mini-batch, with the replicas' mean noise."""
        return Tilted(self.inner.joint(), self.noise.mean(dim=0, keepdim=True))
