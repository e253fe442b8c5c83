"""The layers of a network for a stack of parameters at once: one batched product a layer instead of n small ones.

What `torch.func.vmap` computes, for chains of linear layers and pointwise activations, without its copies: a weight's
gradient is written straight into its place in the (rows, d) matrix of gradients, whatever the stride between rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from dsgd.kernels.kernel import Network
from dsgd.matrices import new_matrix
from dsgd.threads import over_parts
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

POINTWISE = ("Tanh", "GELU", "Softplus", "ReLU")
EXAMPLES_AT_ONCE = 2**16  # of all rows together: bounds the activations

Chain = Sequence[tuple[str, "nn.Module"]]


def chain_of(module: nn.Module) -> Chain | None:
    """The named layers of a chain that these kernels know, or None; so too where layers share or freeze a parameter."""
    from torch import nn

    if type(module) is not nn.Sequential:
        return None
    layers = tuple((name, layer) for name, layer in module._modules.items() if layer is not None)
    owned = [id(leaf) for _, layer in layers for leaf in layer.parameters()]
    trained = {id(leaf) for leaf in module.parameters() if leaf.requires_grad}
    shared = len(set(owned)) < len(owned) or set(owned) != trained
    return None if shared or not all(_is_known(layer) for _, layer in layers) else layers


def _is_known(layer: nn.Module) -> bool:
    from torch import nn

    if type(layer) is nn.Flatten:
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) in (nn.Linear, *(getattr(nn, name) for name in POINTWISE))


class Stacked:
    """For a network whose module `chain_of` knows; threads take a block of rows each."""

    def __init__(self, network: Network) -> None:
        chain = chain_of(network.module)
        if chain is None:
            raise ValueError("the module is no chain of linear layers and pointwise activations; take vmapped")
        self.network, self.chain = network, chain

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        return _through(self.chain, p, x.expand(p.rows, *x.shape) if shared else x, None)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:

        if shared:
            x, y = x.expand(p.rows, *x.shape), y.expand(p.rows, *y.shape)
        losses, grads = p.matrix.new_empty(p.rows), new_matrix(p.rows, p.matrix)

        def take(start: int, stop: int) -> None:
            for low in range(start, stop, at_once):
                part = slice(low, min(stop, low + at_once))
                share = None if weights is None else weights[part]
                losses[part] = self._fill(p.like(grads[part]), p.like(p.matrix[part]), x[part], y[part], share)

        at_once = max(1, EXAMPLES_AT_ONCE // y.shape[1])
        if p.matrix.is_cuda:
            take(0, p.rows)
        else:
            over_parts(take, p.rows)
        return losses, grads

    def _fill(self, into: Params, p: Params, x: Tensor, y: Tensor, weights: Tensor | None) -> Tensor:
        """Writes the gradients into `into`; returns the loss (rows,)."""
        import torch

        with torch.enable_grad():
            # A tensor that every layer depends on: the parameters themselves are not differentiated by autograd.
            token = p.matrix.new_zeros((), requires_grad=True)
            losses = self.network.criterion_of(_through(self.chain, p, x, (token, into)), y)
            total = losses.mean(dim=1) if weights is None else (losses * weights).sum(dim=1)
            torch.autograd.grad(total.sum(), token, allow_unused=True)
        return total.detach()


def _through(chain: Chain, p: Params, x: Tensor, into: tuple[Tensor, Params] | None) -> Tensor:
    """The outputs (rows, B, classes); with a token and gradients to fill `into`, ready for going back."""
    from torch import nn

    for name, layer in chain:
        if isinstance(layer, nn.Flatten):
            x = x.flatten(2)
        elif isinstance(layer, nn.Linear):
            x = _linear(p, f"{name}.weight", f"{name}.bias", x, into)
        else:
            x = layer(x)
    return x


def _linear(p: Params, weight: str, bias: str, x: Tensor, into: tuple[Tensor, Params] | None) -> Tensor:
    w, b = p[weight], p[bias] if bias in p.layout.spans else None
    if into is None:
        return _product(x, w, b)
    token, found = into
    product: Tensor = _product_class().apply(x, w, b, found[weight], None if b is None else found[bias], token)
    return product


def _product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    import torch

    return torch.bmm(x, w.mT) if b is None else torch.baddbmm(b.unsqueeze(1), x, w.mT)


@cache
def _product_class() -> Any:
    """The linear layer of all rows; a function makes the class, because naming it must not import torch."""
    import torch
    from torch.autograd.function import once_differentiable

    class Product(torch.autograd.Function):
        """x W^T + b; going back it fills `dw` and `db` and returns the gradient of x alone."""

        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, dw: Tensor, db: Tensor | None, _: Tensor) -> Any:
            ctx.save_for_backward(x, w)
            ctx.into = dw, db
            return _product(x, w, b)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor) -> Any:
            (dy,) = grads
            x, w = ctx.saved_tensors
            dw, db = ctx.into
            torch.bmm(dy.mT, x, out=dw)
            if db is not None:
                torch.sum(dy, dim=1, out=db)
            dx = torch.bmm(dy, w) if ctx.needs_input_grad[0] else None
            return dx, None, None, None, None, None

    return Product
