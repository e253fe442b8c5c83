"""Simplified batch normalisation by a whole data set: W2 [gamma a_j(x) / sqrt(mean_i a_j(x_i)^2)], a = relu(W1 x + b).

Wen, Li & Ma 2023, arXiv 2307.11007, section 2: the mean of squares is over all training inputs x_i whatever the
mini-batch, no mean is taken off, and there is no shift. Under the squared error of one output the gradients are known
in closed form; they reach the first layer through every x_i, so that those of one example are not of rank one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from dsgd.kernels.kernel import Network, signs
from dsgd.matrices import new_matrix
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6  # below it the root of a unit that is off on all inputs does not fall


def sim_bn(shape: tuple[int, ...], width: int, outputs: int) -> nn.Module:
    """A module from (batch, *shape) to (batch, outputs), at torch's default start.

    Its buffer `inputs` (N, numbers) are those by which it normalises: one of ones, until others take its place.
    """
    module: nn.Module = _sim_bn_class()(math.prod(shape), width, outputs)
    return module


def normalise_by(module: nn.Module, inputs: Tensor) -> None:
    """Has a module of this kind normalise by training inputs (N, ...); others are left as they are."""
    if isinstance(module, _sim_bn_class()):
        module.inputs = inputs.flatten(1)


def joint(networks: Sequence[Network], rows: int) -> Network:
    """One network for the rows of several, `rows` each, that differ in nothing but the inputs they normalise by.

    The first where these kernels are not the network's: those of others may not differ (`one_for_all`).
    """
    import torch

    first = networks[0]
    if first.way != "sim_bn":
        return first
    module = copy(first.module)
    inputs = torch.stack([each.module.get_buffer("inputs") for each in networks])
    module._buffers = {"inputs": inputs.repeat_interleave(rows, dim=0)}
    return replace(first, module=module)


def one_for_all(network: Network) -> bool:
    """Whether runs on different training inputs can share the network's kernels, by `joint` or as they are."""
    return network.way == "sim_bn" or not isinstance(network.module, _sim_bn_class())


def normalises_by_data(module: nn.Module) -> bool:
    """Whether these kernels know the module."""
    return type(module) is _sim_bn_class() and module.get_parameter("head.weight").shape[0] == 1


class SimBnByHand:
    """For a network whose module `normalises_by_data`."""

    def __init__(self, network: Network) -> None:
        if not normalises_by_data(network.module) or network.criterion != "signed_squared_error":
            raise ValueError("the network is not normalised by its training inputs under one output; take vmapped")
        self.network = network

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        x = x.flatten(1).expand(p.rows, -1, -1) if shared else x.flatten(2)
        scale = p["gamma"] * p["head.weight"][:, 0] / self._roots(self._hidden(p, self._inputs(p)))
        return (self._hidden(p, x).relu() * scale.unsqueeze(1)).sum(dim=2, keepdim=True)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        import torch

        x, inputs = x.flatten(1).expand(p.rows, -1, -1) if shared else x.flatten(2), self._inputs(p)
        head, gamma = p["head.weight"][:, 0], p["gamma"]
        hidden, of_inputs = self._hidden(p, x), self._hidden(p, inputs)
        a, all_a, roots = hidden.relu(), of_inputs.relu(), self._roots(of_inputs)
        scale = gamma * head / roots
        error = torch.linalg.vecdot(a, scale.unsqueeze(1)) - signs(y, a)
        weights = error.new_full((), 1 / error.shape[1]) if weights is None else weights
        slope = (2 * weights * error).unsqueeze(1)  # (rows, 1, B)
        seen = torch.bmm(slope, a)[:, 0] / roots  # the loss's derivative by each unit's factor gamma W2
        # d root_j / d a_j(x_i) = a_j(x_i) / (N root_j), none where the root is held at EPS
        away = torch.where(roots > EPS, seen * scale / (roots * inputs.shape[1]), 0)
        dh = slope.mT * scale.unsqueeze(1) * (hidden > 0)
        of_all = all_a * -away.unsqueeze(1)
        grads = p.like(new_matrix(p.rows, p.matrix))
        torch.baddbmm(torch.bmm(dh.mT, x), of_all.mT, inputs, out=grads["hidden.weight"])
        torch.add(dh.sum(dim=1), of_all.sum(dim=1), out=grads["hidden.bias"])
        torch.mul(seen, head, out=grads["gamma"])
        torch.mul(seen, gamma, out=grads["head.weight"][:, 0])
        return (error.square() * weights).sum(dim=1), grads.matrix

    def _inputs(self, p: Params) -> Tensor:
        """The training inputs (rows, N, numbers)."""
        inputs: Tensor = self.network.module.get_buffer("inputs").to(p.matrix.dtype)
        return inputs.expand(p.rows, -1, -1)

    def _hidden(self, p: Params, x: Tensor) -> Tensor:
        import torch

        return torch.baddbmm(p["hidden.bias"].unsqueeze(1), x, p["hidden.weight"].mT)

    def _roots(self, of_inputs: Tensor) -> Tensor:
        """sqrt(mean_i a_j(x_i)^2), (rows, width), of pre-activations (rows, N, width)."""
        return of_inputs.relu().norm(dim=1).div_(math.sqrt(of_inputs.shape[1])).clamp_(min=EPS)


@cache
def _sim_bn_class() -> Any:
    """The class of the module; a function makes it, because naming a model must not import torch."""
    import torch
    from torch import nn

    class SimBnNet(nn.Module):
        inputs: Tensor

        def __init__(self, numbers: int, width: int, outputs: int) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(numbers, width), nn.Linear(width, outputs, bias=False)
            self.gamma = nn.Parameter(torch.ones(width))
            self.register_buffer("inputs", torch.ones(1, numbers))

        def forward(self, x: Tensor) -> Tensor:
            of_all = self.hidden(self.inputs.to(x.dtype)).relu()
            roots = (of_all.norm(dim=0) / math.sqrt(len(of_all))).clamp(min=EPS)
            normalised = self.hidden(x.flatten(1)).relu() / roots
            out: Tensor = self.head(self.gamma * normalised)
            return out

    return SimBnNet
