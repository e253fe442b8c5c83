"""A gradient method on the quadratic 1/2 sum_i h_i w_i^2, in exact steps: which learning rates are stable, what leaves
a saddle.

Points are rows of float64 (rows, d) that know nothing of each other, for methods that ask for losses and gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, cast

from dsgd.gradients import Gradient
from dsgd.perturbations import Noise
from dsgd.randomness import generator
from dsgd.state import When
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.objectives import Objective

LEAST_LR, FINE, GRID = 0.05, 1.0025, 1200  # learning rates looked at: up to 1, a quarter of a percent apart
STEPS = 400  # a quarter of a percent beyond what is stable, |w| grows by a factor of 7 at least


@dataclass(frozen=True)
class Form:
    """The loss of curvatures h (d,), as far as a method asks that looks at gradients alone."""

    h: Tensor

    def loss_and_grad(self, p: Params) -> tuple[Tensor, Params]:
        g = p.like(p.matrix * self.h)
        return (g.matrix * p.matrix).sum(dim=1) / 2, g


def asked(gradient: Gradient, h: Sequence[float], w: Tensor, step: int = 0) -> Tensor:
    """What the method hands to the optimizer at the points w (rows, d)."""
    p = Params(w, Layout(("w",), ((len(h),),)))
    objective = cast("Objective", Form(w.new_tensor(h)))
    return gradient.estimate(objective, p, Noise(step, ()), gradient.init(p), When(step, 0.0)).grads.matrix


def descent(gradient: Gradient, h: Sequence[float], w: Tensor, lr: float | Tensor) -> Iterator[Tensor]:
    """The points after each step of w - lr g, for ever; lr is a number, or one a row (rows, 1)."""
    for step in count():
        w = w - lr * asked(gradient, h, w, step)
        yield w


def stable_lr(gradient: Gradient, h: Sequence[float]) -> float:
    """The largest learning rate of a fine grid from 0.05 to 1 up to which 400 steps lead towards the minimum at 0.

    ValueError unless some of the grid's are stable, and some not.
    """
    import torch

    lrs = torch.tensor([LEAST_LR * FINE**k for k in range(GRID)], dtype=torch.float64)
    start = torch.from_numpy(generator(0, "quadratics", "start").standard_normal((1, len(h))))
    path = descent(gradient, h, start.repeat(GRID, 1), lrs[:, None])
    for _ in range(STEPS - 1):
        next(path)
    nearer = (next(path).norm(dim=1) < start.norm()).tolist()
    if not nearer[0] or all(nearer):
        raise ValueError(f"the largest stable learning rate is not between {LEAST_LR} and {float(lrs[-1]):.2f}")
    return float(lrs[nearer.index(False) - 1])


def escape(gradient: Gradient, h: Sequence[float], start: Sequence[float], lr: float, most: int) -> int | None:
    """The number of steps after which the last coordinate is beyond +-1; None where it is not after `most`."""
    import torch

    path = descent(gradient, h, torch.tensor([start], dtype=torch.float64), lr)
    return next((step for step, w in zip(range(1, most + 1), path, strict=False) if abs(w[0, -1].item()) > 1), None)
