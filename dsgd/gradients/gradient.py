"""The interface of a gradient method: where to take the gradient, given the objective itself.

It is handed an objective and not a gradient because a sharpness-aware method must choose the point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, get_args

from dsgd import trees
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

POINTS_AT_ONCE = 2**26  # numbers of perturbed parameters held at once for a single row


@dataclass(frozen=True)
class Estimate:
    """The mini-batch loss (rows,), the gradient, what is carried on, and numbers (rows, 1) worth recording.

    The loss is that at p; a method that never looks there gives the mean of where it looks.
    """

    loss: Tensor
    grads: Params
    memory: Memory
    gauges: Memory = field(default_factory=dict)


class Gradient(Protocol):
    """`estimate` reads as for one replica: all operations on parameters are row-wise.

    Class attributes: `row_wise` says that a row's gradient depends neither on the ensemble nor on the run's data set,
    and only then runs are trained together (`dsgd.packs`); `cost` counts what a step computes, in gradients of the
    mini-batch; `classifies` says that it needs outputs for classes, and labels. A property `least_batch_size` may say
    that it needs more than one example.

    What all methods keep to: the same mini-batch at each point, and the parameters given are left as they are. Where
    the gradient is 0 there is no perturbation. Lengths are over all of a replica's leaves.
    """

    def init(self, p: Params) -> Memory: ...
    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate: ...


def expected(objective: Objective, p: Params, points: Iterable[Params], weight: float) -> tuple[Tensor, Params]:
    """weight * sum_k of the loss and gradient at points of p.rows rows each, one at least.

    A single row is evaluated at many points in one call.
    """
    if p.rows == 1:
        return _expected_of_one(objective.joint(), p, iter(points), weight)
    loss, grads = p.matrix.new_zeros(p.rows), None
    for point in points:
        found = objective.loss_and_grad(point)
        loss.add_(found[0], alpha=weight)
        if grads is None:
            grads = found[1].matrix if weight == 1 else found[1].matrix.mul_(weight)
        else:
            grads.add_(found[1].matrix, alpha=weight)
    assert grads is not None
    return loss, p.like(grads)


def _expected_of_one(objective: Objective, p: Params, points: Iterator[Params], weight: float) -> tuple[Tensor, Params]:
    import torch

    block = max(1, POINTS_AT_ONCE // p.layout.d)
    loss, grads = p.matrix.new_zeros(1), p.matrix.new_zeros(p.matrix.shape)
    while some := [point.matrix for point in islice(points, block)]:
        losses, at_points = objective.loss_and_grad(p.like(torch.cat(some)))
        loss += weight * losses.sum()
        grads += weight * at_points.matrix.sum(dim=0, keepdim=True)
    return loss, p.like(grads)


def sampled(
    objective: Objective, p: Params, noise: Noise, samples: int, length: Callable[[Params], Tensor]
) -> tuple[Tensor, Params]:
    """The mean over `samples` draws of the loss and gradient at p + length(z) z, z ~ N(0, I), the length (rows,)."""
    draws = (p.like(noise.normal(p.matrix, "direction", k)) for k in range(samples))
    return expected(objective, p, (trees.moved(p, z, length(z), out=z.matrix) for z in draws), 1 / samples)


def check_choice(name: str, value: str, allowed: Any) -> None:
    """ValueError unless the value is one of a Literal's."""
    if value not in get_args(allowed):
        raise ValueError(f"{name} is {value}; allowed are {', '.join(get_args(allowed))}")
