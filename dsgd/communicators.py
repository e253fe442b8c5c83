"""Mixing over the replica axis, wherever the replicas live: the only operation that crosses replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dsgd.trees import Params
from topologies import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 32  # sparse matrices in torch's form: the few through which a schedule cycles


class Communicator(Protocol):
    """The replicas numbered `rows`, of n in all, and what passes between them and the others.

    `mix(p, w, plus)` returns the rows held here of W p + plus, for the rows `p` and `plus` held here: contiguous, and
    `p` itself only where W is the identity and nothing is added. `gather(p)` returns all n replicas' rows.
    """

    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> tuple[int, ...]: ...
    def mix(self, p: Params, w: MixingMatrix, plus: Params | None = None) -> Params: ...
    def gather(self, p: Params) -> Params: ...


class Local:
    """All n replicas in this process, as the rows of one matrix."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows = tuple(range(n))
        self._kept: dict[tuple[Any, ...], tuple[Sparse, Tensor]] = {}

    def mix(self, p: Params, w: MixingMatrix, plus: Params | None = None) -> Params:
        if isinstance(w, Identity):
            return p if plus is None else p + plus
        if isinstance(w, Mean):
            mean = p.matrix.mean(dim=0, keepdim=True)
            return p.like(mean.repeat(self.n, 1) if plus is None else mean + plus.matrix)
        mixed = self._mixed(p.matrix, w)
        return p.like(mixed if plus is None else mixed.add_(plus.matrix))

    def _mixed(self, matrix: Tensor, w: Permutation | Dense | Sparse) -> Tensor:
        """W times `matrix`, a new tensor."""
        match w:
            case Permutation():
                return _exchange(matrix, w)
            case Dense():
                return _dense(w, matrix) @ matrix
            case Sparse():
                return self._csr(w, matrix) @ matrix

    def _csr(self, w: Sparse, like: Tensor) -> Tensor:
        """W as a sparse tensor of torch; the latest few are kept."""
        key = id(w), like.dtype, like.device
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = w, _csr(w, like)  # w is held, so that its id stays its own
        return self._kept[key][1]

    def gather(self, p: Params) -> Params:
        return p


def _exchange(matrix: Tensor, w: Permutation) -> Tensor:
    import torch

    partner = torch.as_tensor(w.partner, device=matrix.device, dtype=torch.int64)
    return matrix[partner].lerp(matrix, w.self_weight)


def _dense(w: Dense, like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(w.array, dtype=like.dtype, device=like.device)


def _csr(w: Sparse, like: Tensor) -> Tensor:
    """W as a sparse tensor of torch."""
    import warnings

    import torch

    csr = w.csr
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr.astype("int64")),
            torch.from_numpy(csr.indices.astype("int64")),
            torch.from_numpy(csr.data.copy()).to(like.dtype),
            size=csr.shape,
            device=like.device,
            check_invariants=False,
        )
