"""The quadratic regression model: residuals that are quadratic in the parameters, the simplest that sharpens.

Agarwala & Dauphin 2023, arXiv 2302.08692; z(t) = z0 + G t + Q(t, t) / 2, and the loss is |z|^2 / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from dsgd.models.shapes import check_count, check_positive
from dsgd.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class QuadraticRegression:
    """`parameters` t from 0, `outputs` z of length `residual` at the start; with no data, its output is the loss.

    Drawn by `landscape`, which a run's seed is not: z0; G Gaussian, scaled so that G G^T, the tangent kernel at the
    start, has the largest eigenvalue `kernel`; and Q, for each output a symmetrised Gaussian matrix times
    `bend` kernel / (sqrt(parameters) residual), so that `bend` says how fast the kernel changes.
    """

    criterion: ClassVar[str] = "output"

    outputs: int = 20
    parameters: int = 40
    kernel: float = 1.0
    residual: float = 3.0
    bend: float = 0.3
    landscape: int = 0

    def __post_init__(self) -> None:
        check_positive("outputs", (self.outputs,))
        check_positive("parameters", (self.parameters,))
        check_count("outputs", self.outputs * self.parameters**2, "outputs * parameters^2 is")
        for name in ("kernel", "residual"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} is not possible: give a positive number.")
        if not math.isfinite(self.bend):
            raise ValueError(f"bend={self.bend} is not possible: give a finite number.")
        if self.landscape < 0:
            raise ValueError(f"landscape={self.landscape} is not possible: give a number from 0 on.")

    @property
    def smooth(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A module from inputs (batch, ...), of which only the number counts, to equal losses (batch,)."""
        import torch

        drawn = generator(self.landscape, "quadratic regression")
        z0, g, q = (
            torch.from_numpy(drawn.standard_normal(size))
            for size in (
                self.outputs,
                (self.outputs, self.parameters),
                (self.outputs, self.parameters, self.parameters),
            )
        )
        largest = torch.linalg.eigvalsh(g @ g.T)[-1]
        scale = self.bend * self.kernel / (math.sqrt(self.parameters) * self.residual)
        return _landscape_class()(
            z0 * (self.residual / z0.norm()), g * (self.kernel / largest).sqrt(), (q + q.mT) / 2 * scale
        )


@cache
def _landscape_class() -> type[nn.Module]:
    """The class of the landscape; a function makes it, because naming the model must not import torch."""
    import torch
    from torch import nn

    class Landscape(nn.Module):
        """|z|^2 / 2; what is drawn are float64 buffers, so that it is exact in whatever dtype t has."""

        z0: Tensor
        g: Tensor
        q: Tensor

        def __init__(self, z0: Tensor, g: Tensor, q: Tensor) -> None:
            super().__init__()
            self.t = nn.Parameter(torch.zeros(g.shape[1]))
            for name, drawn in (("z0", z0), ("g", g), ("q", q)):
                self.register_buffer(name, drawn)

        def forward(self, x: Tensor) -> Tensor:
            z0, g, q = (drawn.to(self.t.dtype) for drawn in (self.z0, self.g, self.q))
            z = z0 + (g + (q @ self.t) / 2) @ self.t
            return (0.5 * z.square().sum()).expand(len(x))

    return Landscape
