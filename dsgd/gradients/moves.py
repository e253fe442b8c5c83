"""Steps that several methods have in common: to where the loss is worst in a measure, and away from a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgd import trees
from dsgd.trees import TINY, Params

if TYPE_CHECKING:
    from torch import Tensor


def ascended(p: Params, g: Params, rho: float) -> Params:
    """p + rho g / |g|: where the loss is worst within rho, to first order."""
    return trees.moved(p, g, rho / (trees.norm(g) + TINY))


def adaptively_moved(
    p: Params, g: Params, radius: float | Tensor, scaled: Tensor | None = None, xi: float = 0.0
) -> Params:
    """p + radius T^2 g / |T g|, radius a number or (rows, 1); T = |p| + xi where `scaled` (d,), else 1; None: |p|."""
    import torch

    ones = None if scaled is None else (~scaled).nonzero()[:, 0]

    def moved(out: Tensor, w: Tensor, h: Tensor, radius: Tensor) -> None:
        size = w.abs()
        if ones is not None:
            size.add_(xi).index_fill_(1, ones, 1.0)
        torch.mul(size, h, out=out)
        length = out.norm(dim=1, keepdim=True) + TINY
        torch.addcmul(w, out.mul_(size), radius / length, out=out)

    radii = radius if not isinstance(radius, int | float) else p.matrix.new_full((p.rows, 1), radius)
    return trees.by_blocks(moved, p, g.matrix, radii)


def fisher_moved(p: Params, g: Params, of: Params, gamma: float, eta: float) -> Params:
    """p + gamma F g / sqrt(g^T F g), F = 1 / (1 + eta of^2)."""
    import torch

    def moved(out: Tensor, w: Tensor, h: Tensor, of: Tensor) -> None:
        torch.div(h, of.square().mul_(eta).add_(1), out=out)
        length = trees.dot(p.like(out), p.like(h)).unsqueeze(1).sqrt() + TINY
        torch.addcmul(w, out, gamma / length, out=out)

    return trees.by_blocks(moved, p, g.matrix, of.matrix)


def without_across(g: Params, perturbed: Params, alpha: float) -> Params:
    """perturbed - alpha g_perp, g_perp = g - <g, perturbed> perturbed / |perturbed|^2."""
    along = trees.dot(g, perturbed) / (trees.dot(perturbed, perturbed) + TINY**2)
    return trees.combined(perturbed, 1 + alpha * along, g, -alpha)
