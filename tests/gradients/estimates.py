"""What the tests of gradient methods share: estimates, quadratics, and a mini-batch of chosen labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from dsgd.gradients import Gradient
from dsgd.objectives import Batch, network
from dsgd.perturbations import Noise
from dsgd.run import Run
from dsgd.state import Memory, When
from dsgd.trees import Layout, Params

Make = Callable[..., Run]
CPU = torch.device("cpu")
FIRST = When(0, 0.1)
START = (1.0, -2.0)


def numbers(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Quadratics:
    """The mean of w^T diag(h) w / 2 + b^T w over examples (h, b); `points` notes where the gradient was asked for."""

    examples: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (((4.0, 1.0), (0.5, -0.25)),)
    points: list[torch.Tensor] = field(default_factory=list)

    @property
    def y(self) -> torch.Tensor:
        return torch.zeros(1, len(self.examples))

    def loss_and_grad(self, p: Params) -> tuple[torch.Tensor, Params]:
        self.points.append(p.matrix.clone())
        h, b = (numbers(*(example[i] for example in self.examples)).mean(dim=0) for i in (0, 1))
        w = p.matrix
        return (w * w * h / 2 + w * b).sum(dim=1), p.like(w * h + b)

    def joint(self) -> Quadratics:
        return self

    def part(self, start: int, stop: int) -> Quadratics:
        return Quadratics(self.examples[start:stop], self.points)


def at(*w: float) -> Params:
    return Params(numbers(w), Layout(("weight",), ((len(w),),)))


def estimated(gradient: Gradient, objective: Any, p: Params, memory: Memory | None = None, when: When = FIRST) -> Any:
    memory = gradient.init(p) if memory is None else memory
    return gradient.estimate(objective, p, Noise(when.step, tuple((0, j) for j in range(p.rows))), memory, when)


def imbalanced(*labels: int) -> tuple[Batch, Params]:
    """One replica's mini-batch with these labels, of data in which class k has 10 (k + 1) examples."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    net = network(module, "cross_entropy")
    p = Params(torch.randn(1, net.layout.d, dtype=torch.float64), net.layout)
    x, y = torch.randn(1, len(labels), 5, dtype=torch.float64), torch.tensor([labels])
    return Batch(net, x, y, counts=lambda of: torch.tensor([[10, 20, 30]])), p
