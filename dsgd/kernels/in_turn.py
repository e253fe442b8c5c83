"""Any module, row after row by autograd: for convolutions on a CPU no batched form is as quick.

The activations of one row's mini-batch stay in the cache, where those of the joint batch do not: n rows in turn take
less time than one step on the joint batch. Threads take a block of rows each.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from dsgd.kernels.kernel import Network
from dsgd.matrices import new_matrix
from dsgd.threads import over_parts
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor


class InTurn:
    """Works for every module."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._free: SimpleQueue[Network] = SimpleQueue()

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        import torch

        found: list[Tensor] = [p.matrix] * p.rows

        def take(network: Network, i: int) -> None:
            with torch.no_grad():
                found[i] = network.logits(p.matrix[i], x if shared else x[i])

        self._each(p.rows, take)
        return torch.stack(found)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:

        losses, grads = p.matrix.new_empty(p.rows), new_matrix(p.rows, p.matrix)

        def take(network: Network, i: int) -> None:
            share = None if weights is None else weights[i]
            losses[i] = _fill(network, grads[i], p.matrix[i], x if shared else x[i], y if shared else y[i], share)

        self._each(p.rows, take)
        return losses, grads

    def _each(self, rows: int, take: Callable[[Network, int], None]) -> None:
        def block(start: int, stop: int) -> None:
            network = self._one_of_its_own()
            for i in range(start, stop):
                take(network, i)
            self._free.put(network)

        over_parts(block, rows)

    def _one_of_its_own(self) -> Network:
        """A copy for a thread: calling a module with other parameters changes it for a moment."""
        try:
            return self._free.get_nowait()
        except Empty:
            return replace(self.network, module=deepcopy(self.network.module))


def _fill(network: Network, into: Tensor, row: Tensor, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
    """Writes the gradient at one row into `into`, both (d,); returns the loss."""
    import torch
    from torch.func import functional_call

    leaves = {name: leaf.detach().requires_grad_() for name, leaf in network.layout.leaves(row).items()}
    with torch.enable_grad():
        losses = network.criterion_of(functional_call(network.module, leaves, (x,)), y)
        loss = losses.mean() if weights is None else (losses * weights).sum()
        grads = torch.autograd.grad(loss, tuple(leaves.values()))
    for place, grad in zip(network.layout.leaves(into).values(), grads, strict=True):
        place.copy_(grad)
    return loss.detach()
