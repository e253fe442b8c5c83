"""Second derivatives of any scalar function of one row of parameters, by forward-over-reverse products."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def hvp(loss: Callable[[Tensor], Tensor], point: Tensor, directions: Tensor, block: int | None = None) -> Tensor:
    """Hessian-vector products H v at `point` (d,) for each row of `directions` (k, d); shape (k, d).

    `block` directions are taken at once.
    """
    from torch.func import grad, jvp, vmap

    def product(v: Tensor) -> Tensor:
        tangent: Tensor = jvp(grad(loss), (point,), (v,))[1]
        return tangent

    out: Tensor = vmap(product, chunk_size=block)(directions)
    return out
