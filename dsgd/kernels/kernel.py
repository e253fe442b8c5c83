"""A network as a function of one row of numbers, and what its kernels compute for many rows at once."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from dsgd.kernels.batch_norm import noted, running
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor, nn


Criterion = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Network:
    """A module as a function of one row of d numbers, and the loss of its outputs.

    `criterion` is one of a `DataSet`'s, or a function of outputs (..., B, classes) and labels (..., B) to losses
    (..., B). `way` names the kernels that compute it for many rows.
    """

    module: nn.Module
    layout: Layout
    criterion: str | Criterion = "cross_entropy"
    way: str = "vmapped"

    @cached_property
    def kernels(self) -> Kernels:
        from dsgd.kernels import KERNELS

        return KERNELS[self.way](self)

    def under(self, criterion: Criterion) -> Network:
        """The same network with another loss of its outputs for classes, made once for each criterion."""
        if self.criterion == "output":
            raise ValueError("the model's output is itself the loss; a loss of outputs for classes needs another model")
        if criterion not in self._others:
            self._others[criterion] = replace(self, criterion=criterion)
        return self._others[criterion]

    @cached_property
    def _others(self) -> dict[Criterion, Network]:
        return {}

    @cached_property
    def statistics_layout(self) -> Layout:
        """Names and shapes of the running statistics; of no numbers where the network has none."""
        shapes = {name: tuple(buffer.shape) for name, buffer in running(self.module).items()}
        return Layout(tuple(shapes), tuple(shapes.values()))

    def statistics(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        """The mini-batch's own statistics at each row of p, (rows, numbers), without any gradient."""
        import torch

        rows = []
        with torch.no_grad():
            for i in range(p.rows):
                with noted(self.module) as found:
                    self.logits(p.matrix[i], x if shared else x[i])
                rows.append(torch.cat(found))
        return torch.stack(rows)

    @cached_property
    def judging(self) -> Network:
        """The network as it is judged: a row holds the running statistics behind the parameters."""
        if not self.statistics_layout.d:
            return self
        both = self.layout, self.statistics_layout
        layout = Layout(sum((each.names for each in both), ()), sum((each.shapes for each in both), ()))
        return replace(self, module=deepcopy(self.module).eval(), layout=layout)

    def logits(self, row: Tensor, x: Tensor) -> Tensor:
        """Outputs (B, classes) at parameters `row` (d,) for inputs `x` (B, ...)."""
        from torch.func import functional_call

        out: Tensor = functional_call(self.module, self.layout.leaves(row), (x,))
        return out

    def noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the noise for one input of `shape`: its own, or of its tokens' embeddings.

        A module that embeds tokens has the attribute `embedding_width`, and takes noise behind each token.
        """
        width = getattr(self.module, "embedding_width", None)
        return shape if width is None else (*shape, width)

    def noised(self, x: Tensor, noise: Tensor) -> Tensor:
        """Inputs with the noise (rows, B, *noise_shape) added to them, or to what they are embedded in."""
        import torch

        if not hasattr(self.module, "embedding_width"):
            return x + noise
        return torch.cat([x.unsqueeze(-1).expand(*noise.shape[:-1], 1), noise], dim=-1)

    def losses(self, row: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Per-example losses (B,)."""
        return self.criterion_of(self.logits(row, x), y)

    def criterion_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Per-example losses (..., B) of outputs (..., B, classes), or (..., B) where these are the losses."""
        from torch.nn.functional import cross_entropy

        if callable(self.criterion):
            return self.criterion(outputs, y)
        if self.criterion == "output":
            return outputs
        if self.criterion == "squared_error":
            return _squared_error(outputs, y)
        if self.criterion == "signed_squared_error":
            return (outputs[..., 0] - signs(y, outputs)).square()
        return cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction="none").view(y.shape)

    @property
    def classifies(self) -> bool:
        """Whether there is an output for each class."""
        return callable(self.criterion) or self.criterion == "cross_entropy"

    def hits(self, outputs: Tensor, y: Tensor) -> Tensor | None:
        """Which of the outputs (..., B, classes) say the label of y (..., B); None where there are no labels.

        A single output f says y = -1 or +1 where y f > 0: at f = 0 neither.
        """
        if self.criterion == "output":
            return None
        if self.criterion == "signed_squared_error":
            return outputs[..., 0] * signs(y, outputs) > 0
        return outputs.argmax(dim=-1) == y


def signs(y: Tensor, like: Tensor) -> Tensor:
    """-1 and +1 for the labels 0 and 1, in the dtype of `like`."""
    return (2 * y - 1).to(like.dtype)


def _squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """|output - one-hot label + 1 / classes|^2 / 2; torch's one_hot cannot be vmapped."""
    import torch

    classes = outputs.shape[-1]
    targets = (y.unsqueeze(-1) == torch.arange(classes, device=y.device)).to(outputs.dtype) - 1 / classes
    return (outputs - targets).square().sum(dim=-1) / 2


class Kernels(Protocol):
    """Losses and gradients at rows `p` (rows, d) on x (rows, B, ...), y (rows, B), or with `shared` x (B, ...), y (B,).

    `logits` are (rows, B, classes). `loss_and_grad` gives the mean of the B losses, shape (rows,), or their sum with
    `weights` (rows, B), and its gradient (rows, d), a new tensor. Each row's numbers do not depend on the others.
    Some have `at_worst(p, x, y, rho)` for one example a row, B = 1: the loss at p, and the gradient at
    p + rho g / |g|, g the gradient at p.
    """

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor: ...
    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]: ...
