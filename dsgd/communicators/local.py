"""All replicas in this process: mixing is a product, and nothing crosses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.matrices import new_matrix
from dsgd.mixing import Mix, neighbours, operator
from dsgd.trees import Params, Scaled
from topologies import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 32  # matrices made ready for use: the few through which a schedule cycles


class Local:
    """All n replicas in this process, as the rows of one matrix."""

    leads, bytes_crossed, dropped = True, 0, 0

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows = tuple(range(n))
        self._kept: dict[tuple[Any, ...], tuple[MixingMatrix, Mix]] = {}

    def begin(self, p: Params, w: MixingMatrix) -> None:
        """Nothing: nothing is sent."""

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

    def collect(self, p: Params) -> Params:
        return p

    def await_leader(self) -> None:
        """Nothing: this is the leader."""

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
