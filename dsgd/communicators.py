"""Mixing over the replica axis, wherever the replicas live: the only operation that crosses replicas."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from dsgd.trees import Params
from topologies import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Communicator(Protocol):
    """`mix` returns W applied to the replicas held here; `gather` returns all n replicas' rows."""

    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...
    def mix(self, p: Params, w: MixingMatrix) -> Params: ...
    def gather(self, p: Params) -> Params: ...


class Local:
    """All n replicas in this process, as the rows of one matrix."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows = tuple(range(n))

    def mix(self, p: Params, w: MixingMatrix) -> Params:
        match w:
            case Identity():
                return p
            case Mean():
                return p.like(p.matrix.mean(dim=0, keepdim=True).expand(self.n, -1))
            case Permutation():
                return p.like(_exchange(p.matrix, w))
            case Dense():
                return p.like(_dense(w, p.matrix) @ p.matrix)
            case Sparse():
                return p.like(_sparse(w, p.matrix.dtype, p.matrix.device) @ p.matrix)

    def gather(self, p: Params) -> Params:
        return p


def _exchange(matrix: Tensor, w: Permutation) -> Tensor:
    import torch

    partner = torch.as_tensor(w.partner, device=matrix.device, dtype=torch.int64)
    return matrix[partner].lerp(matrix, w.self_weight)


def _dense(w: Dense, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(w.array, dtype=like.dtype, device=like.device)


@lru_cache(maxsize=64)
def _sparse(w: Sparse, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The torch CSR form of one W, kept while schedules cycle through the same few matrices."""
    import warnings

    import torch

    csr = w.csr
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr.astype("int64")),
            torch.from_numpy(csr.indices.astype("int64")),
            torch.from_numpy(csr.data.copy()).to(dtype),
            size=csr.shape,
            device=device,
            check_invariants=False,
        )
