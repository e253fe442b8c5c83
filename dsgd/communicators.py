"""Mixing over the replica axis, wherever the replicas live: the only operation that crosses replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dsgd.matrices import new_matrix
from dsgd.mixing import Mix, neighbours, operator
from dsgd.trees import Params, Scaled
from topologies import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 32  # matrices made ready for use: the few through which a schedule cycles


class Communicator(Protocol):
    """The replicas numbered `rows`, of n in all, and what passes between them and the others.

    `mix(p, w, plus)` returns the rows held here of W p + plus, for the rows `p` and `plus` held here: contiguous, and
    `p` itself only where W is the identity and nothing is added. `gather(p)` returns all n replicas' rows.
    """

    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...
    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params: ...
    def gather(self, p: Params) -> Params: ...


class Local:
    """All n replicas in this process, as the rows of one matrix."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows = tuple(range(n))
        self._kept: dict[tuple[Any, ...], tuple[MixingMatrix, Mix]] = {}

    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params:
        match w:
            case Identity():
                return p if plus is None else p + plus
            case Mean():
                mean = p.matrix.mean(dim=0, keepdim=True)
                return p.like(new_matrix(self.n, mean).copy_(mean)) if plus is None else p.like(mean) + plus
            case Dense():
                mixed = p.like(_dense(w, p.matrix) @ p.matrix)
                return mixed if plus is None else mixed + plus
            case _:
                return p.like(self._operator(w, p.matrix)(p.matrix, plus))

    def gather(self, p: Params) -> Params:
        return p

    def _operator(self, w: Permutation | Sparse, like: Tensor) -> Mix:
        """W made ready for matrices like this one; the latest few are kept."""
        key = id(w), like.dtype, like.device, like.shape[1]
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = w, operator(neighbours(w), like)  # w is held, so that its id stays its own
        return self._kept[key][1]


def _dense(w: Dense, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(w.array, dtype=like.dtype, device=like.device)
