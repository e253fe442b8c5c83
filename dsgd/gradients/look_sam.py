"""LookSAM, a SAM step now and then: Liu et al. 2022, arXiv 2203.02714.

`tensor` is the projection of its public copies, `global` what the formulas say, read for all parameters at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dsgd import trees
from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.gradients.moves import ascended
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import TINY, Params

if TYPE_CHECKING:
    from torch import Tensor

Projection = Literal["global", "tensor"]
ROUNDINGS = 100  # in units of the precision and of the gradient: what is orthogonal and shorter is rounding


@dataclass(frozen=True)
class LookSam:
    """Every k-th step, from the first, SAM's g, whose part orthogonal to grad L_B(w) is remembered as v.

    At the others g = h + alpha (|h| / |v|) v, h = grad L_B(w). `projection` global: one angle for all parameters;
    tensor: one for each leaf.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "1 + 1/k"

    rho: float = 0.1
    k: int = 10
    alpha: float = 0.7
    projection: Projection = "global"

    def __post_init__(self) -> None:
        check_least(self, rho=0)
        if self.k < 1:
            raise ValueError(f"k is {self.k}; it must be at least 1 step")
        check_least(self, alpha=0)
        check_choice("projection", self.projection, Projection)

    def init(self, p: Params) -> Memory:
        return {"orthogonal": p.matrix.new_zeros(p.matrix.shape), "length": p.matrix.new_zeros(p.rows, 1)}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        import torch

        loss, g = objective.loss_and_grad(p)
        if at.step % self.k:
            orthogonal = p.like(memory["orthogonal"])
            length = trees.leaf_norms(orthogonal) if self.projection == "tensor" else memory["length"][:, 0]
            factor = self.alpha * (clean := self._norm(g)) / (length + TINY)
            rounding = ROUNDINGS * torch.finfo(g.matrix.dtype).eps * clean
            return Estimate(loss, _plus(g, orthogonal, factor.where(length > rounding, 0.0)), memory)
        worst = ascended(p, g, self.rho)
        perturbed = objective.loss_and_grad(worst)[1]
        along = self._dot(perturbed, g) / (self._norm(g).square() + TINY**2)
        orthogonal = _plus(perturbed, g, -along)
        length = trees.norm(orthogonal).unsqueeze(1)
        return Estimate(loss, perturbed, {"orthogonal": orthogonal.matrix, "length": length})

    def _norm(self, p: Params) -> Tensor:
        """(rows,), or (rows, d) where each leaf has its own."""
        return trees.leaf_norms(p) if self.projection == "tensor" else trees.norm(p)

    def _dot(self, p: Params, q: Params) -> Tensor:
        return trees.leaf_dots(p, q) if self.projection == "tensor" else trees.dot(p, q)


def _plus(p: Params, q: Params, factor: Tensor) -> Params:
    """p + factor q, the factor (rows,) or (rows, d)."""
    return trees.moved(p, q, factor) if factor.dim() == 1 else p.like(p.matrix.addcmul(q.matrix, factor))
