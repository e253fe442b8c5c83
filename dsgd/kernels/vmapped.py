"""Any module, by `torch.func.vmap` over the rows: the general way, and what the others are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsgd.kernels.kernel import Network
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

ROW_BLOCK = 2**16  # examples in flight at once in one vmap: bounds activations, keeps them near the cache


@dataclass(frozen=True)
class Vmapped:
    """Works for every module without state that is changed in place."""

    network: Network

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        return self._map(self.network.logits, p, x, shared=shared)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        from torch.func import grad_and_value

        def total(row: Tensor, x: Tensor, y: Tensor, *w: Tensor) -> Tensor:
            losses = self.network.losses(row, x, y)
            return (losses * w[0]).sum() if w else losses.mean()

        grad, loss = self._map(grad_and_value(total), p, x, y, *(() if weights is None else (weights,)), shared=shared)
        return loss, grad

    def _map(self, function: Any, p: Params, *arguments: Tensor, shared: bool) -> Any:
        from torch.func import vmap

        data = None if shared else 0
        axes = (0, *(data if i < 2 else 0 for i in range(len(arguments))))
        block = max(1, ROW_BLOCK // max(1, arguments[0].shape[0 if shared else 1]))
        return vmap(function, in_dims=axes, chunk_size=block if block < p.rows else None)(p.matrix, *arguments)
