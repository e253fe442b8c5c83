"""A hidden layer of ReLUs under one output and the squared error, in closed form: W2 n(relu(W1 x + b)), (f - y)^2.

n is nothing, or the simplified layer normalisation a / max(|a|, eps) of Wen, Li & Ma 2023 (arXiv 2307.11007, section
2). No graph is kept, and for a single example SAM forms no perturbed weights: the gradient of the first layer is the
product dh (x, 1)^T, so that after an ascent by c it holds at x the pre-activations h + c (|x|^2 + 1) dh.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dsgd.kernels.kernel import Network, signs
from dsgd.matrices import new_matrix
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6  # of the simplified normalisations
TINY = 1e-12  # added to a length that divides, as gradient methods do


def sim_ln(eps: float) -> nn.Module:
    """A layer a / max(|a|, eps) for activations (batch, width): no mean is taken off, and nothing is learnt."""
    layer: nn.Module = _sim_ln_class()(eps)
    return layer


@dataclass(frozen=True)
class Layers:
    """Names of the first layer's weight and bias and of the head's weight; `eps` of its normalisation, if any."""

    weight: str
    bias: str | None
    head: str
    eps: float | None


def layers_of(module: nn.Module) -> Layers | None:
    """The layers of a module that these kernels know, or None."""
    from torch import nn

    if type(module) is not nn.Sequential or not all(leaf.requires_grad for leaf in module.parameters()):
        return None
    layers = list(module)
    kinds = [type(layer) for layer in layers]
    eps = layers[3].eps if len(layers) == 5 and kinds[3] is _sim_ln_class() else None
    if kinds != [nn.Flatten, nn.Linear, nn.ReLU, *([] if eps is None else [kinds[3]]), nn.Linear]:
        return None
    flatten, hidden, head = layers[0], layers[1], layers[-1]
    if head.out_features != 1 or head.bias is not None or (flatten.start_dim, flatten.end_dim) != (1, -1):
        return None
    return Layers("1.weight", None if hidden.bias is None else "1.bias", f"{len(layers) - 1}.weight", eps)


class Passed(NamedTuple):
    """Outputs f (rows, B), and their derivatives by the pre-activations and by the head, both (rows, B, width)."""

    f: Tensor
    by_hidden: Tensor
    by_head: Tensor


class TwoLayerByHand:
    """For a network whose module `layers_of` knows."""

    def __init__(self, network: Network) -> None:
        layers = layers_of(network.module)
        if layers is None or network.criterion != "signed_squared_error":
            raise ValueError("the network is no hidden layer of ReLUs under one output without bias; take vmapped")
        self.layers = layers

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        return self._passed(self._hidden(p, _rows_of(x, p, shared)), self._head(p)).f.unsqueeze(2)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        import torch

        x = _rows_of(x, p, shared)
        found = self._passed(self._hidden(p, x), self._head(p))
        error = found.f - signs(y, found.f)
        weights = error.new_full((), 1 / error.shape[1]) if weights is None else weights
        slope = (2 * weights * error).unsqueeze(2)
        dh, grads = found.by_hidden * slope, p.like(new_matrix(p.rows, p.matrix))
        torch.bmm(dh.mT, x, out=grads[self.layers.weight])
        if self.layers.bias:
            torch.sum(dh, dim=1, out=grads[self.layers.bias])
        torch.bmm(slope.mT, found.by_head, out=grads[self.layers.head])
        return (error.square() * weights).sum(dim=1), grads.matrix

    def at_worst(self, p: Params, x: Tensor, y: Tensor, rho: float) -> tuple[Tensor, Tensor]:
        x = x.flatten(2)
        lengths = _square(x).unsqueeze(2) + (self.layers.bias is not None)
        hidden, head, target = self._hidden(p, x), self._head(p), signs(y, p.matrix)
        here = self._passed(hidden, head)
        error = here.f - target
        steepness = _square(here.by_hidden) * lengths[:, :, 0] + _square(here.by_head)
        ascent = (2 * error * rho / (2 * error.abs() * steepness.sqrt() + TINY)).unsqueeze(2)
        worst = self._passed(hidden + ascent * lengths * here.by_hidden, head + ascent * here.by_head)
        slope = (2 * (worst.f - target)).unsqueeze(2)
        return error.square()[:, 0], self._of_one(p, x, worst.by_hidden * slope, worst.by_head * slope)

    def _of_one(self, p: Params, x: Tensor, dh: Tensor, dv: Tensor) -> Tensor:
        """The gradient of one example a row: the outer product of dh (rows, 1, width) and (x, 1), and dv."""
        import torch

        grads = p.like(new_matrix(p.rows, p.matrix))
        torch.mul(dh.mT, x, out=grads[self.layers.weight])
        if self.layers.bias:
            grads[self.layers.bias].copy_(dh[:, 0])
        grads[self.layers.head].copy_(dv)
        return grads.matrix

    def _hidden(self, p: Params, x: Tensor) -> Tensor:
        """Pre-activations (rows, B, width) of x (rows, B, inputs)."""
        import torch

        weight = p[self.layers.weight].mT
        if self.layers.bias is None:
            return torch.bmm(x, weight)
        return torch.baddbmm(p[self.layers.bias].unsqueeze(1), x, weight)

    def _head(self, p: Params) -> Tensor:
        """The head's weights, (rows, 1, width)."""
        return p[self.layers.head]

    def _passed(self, hidden: Tensor, head: Tensor) -> Passed:
        import torch

        a, on = hidden.relu(), hidden > 0
        if self.layers.eps is None:
            return Passed(torch.linalg.vecdot(a, head), torch.where(on, head, 0), a)
        length = a.norm(dim=2, keepdim=True)
        n = a / length.clamp(min=self.layers.eps)
        f = torch.linalg.vecdot(n, head).unsqueeze(2)
        radial = torch.where(length > self.layers.eps, f, f.new_zeros(()))
        by_a = (head - radial * n) / length.clamp(min=self.layers.eps)
        return Passed(f[:, :, 0], torch.where(on, by_a, 0), n)


def _square(rows: Tensor) -> Tensor:
    """|row|^2 over the last axis."""
    import torch

    return torch.linalg.vecdot(rows, rows)


def _rows_of(x: Tensor, p: Params, shared: bool) -> Tensor:
    """Inputs (rows, B, numbers)."""
    return x.flatten(1).expand(p.rows, -1, -1) if shared else x.flatten(2)


@cache
def _sim_ln_class() -> Any:
    """The class of the layer; a function makes it, because naming a model must not import torch."""
    from torch import nn

    class SimLn(nn.Module):
        def __init__(self, eps: float) -> None:
            super().__init__()
            self.eps = eps

        def forward(self, a: Tensor) -> Tensor:
            return a / a.norm(dim=-1, keepdim=True).clamp(min=self.eps)

    return SimLn
