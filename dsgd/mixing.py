"""W p + a u over the rows of a matrix in one pass over memory: the fused update and gossip, at the cost of the edges.

One of four ways is taken by a fixed rule from the sizes (`way_of`): a dense product where it is small anyway, a loop
compiled by numba (extra `fast`) where numba is installed and the matrix large, whole rows added one by one, or torch's
sparse product. `benchmarks/` shows what each costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from dsgd.compiled import compiled_loop
from dsgd.matrices import new_matrix
from dsgd.threads import over_parts
from dsgd.trees import Scaled

if TYPE_CHECKING:
    from torch import Tensor

    from topologies import MixingMatrix

Way = Literal["dense", "compiled", "by_rows", "sparse"]

SMALL_PRODUCT = 2**23  # multiplications; a dense product of this size costs less than the overhead of anything finer
LARGE_MATRIX = 2**20  # numbers; below, loading the compiled loop does not pay
LONG_ROW = 2**13  # numbers; shorter rows are over before the next call begins
ROW_PART = 2**18  # numbers of a row at a time, so that its sum stays in the cache
COLUMNS = 2**14  # columns at a time in the compiled loop, for the same reason


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Row i hears row `sources[e]` with weight `weights[e]` for e from `starts[i]` to `starts[i + 1]`; n heard in all.

    A sparse matrix (rows, n) in the form of its CSR arrays, int64 and float64.
    """

    starts: np.ndarray
    sources: np.ndarray
    weights: np.ndarray
    n: int

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def heard(self) -> list[list[tuple[int, float]]]:
        """For each row the pairs of a row that it hears and the weight."""
        pairs = list(zip(self.sources.tolist(), self.weights.tolist(), strict=True))
        return [pairs[start:stop] for start, stop in zip(self.starts, self.starts[1:], strict=False)]

    def dense(self, like: Tensor) -> Tensor:
        """The matrix (rows, n), of the dtype and on the device of `like`."""
        import torch

        matrix = np.zeros((self.rows, self.n))
        np.add.at(matrix, (np.repeat(np.arange(self.rows), np.diff(self.starts)), self.sources), self.weights)
        return torch.from_numpy(matrix).to(like)

    def csr(self, like: Tensor) -> Tensor:
        """The same as a sparse tensor."""
        import warnings

        import torch

        starts, sources = torch.from_numpy(self.starts), torch.from_numpy(self.sources)
        values, size = torch.from_numpy(self.weights).to(like.dtype), (self.rows, self.n)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                starts, sources, values, size=size, device=like.device, check_invariants=False
            )


def neighbours(w: MixingMatrix) -> Neighbours:
    """Who hears whom in W."""
    csr = w.sparse()
    return Neighbours(csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data.astype(np.float64), w.n)


def way_of(rows: int, n: int, d: int, cuda: bool, dense: bool = True) -> Way:
    """How a matrix (rows, n) is applied to one of shape (n, d): a fixed rule, so that the numbers stay the same.

    Without `dense` a dense product, which multiplies also by zeros, is out of the question.
    """
    if dense and (rows * n * d <= SMALL_PRODUCT or (cuda and n <= 128)):
        return "dense"
    if cuda:
        return "sparse"
    if rows * d >= LARGE_MATRIX and find_spec("numba"):
        return "compiled"
    return "by_rows" if d >= LONG_ROW else "sparse"


def mixed(w: Neighbours, matrix: Tensor, plus: Scaled | None) -> Tensor:
    """W `matrix` + plus, a new tensor (rows, d), for `matrix` (n, d) and `plus` (rows, d)."""
    return operator(w, matrix)(matrix, plus)


Mix = Callable[["Tensor", Scaled | None], "Tensor"]


def operator(w: Neighbours, like: Tensor) -> Mix:
    """The function (matrix, plus) -> W matrix + plus for matrices like `like` (n, d), with what it needs made ready."""
    return operator_by(w, like, way_of(w.rows, w.n, like.shape[1], like.is_cuda))


def operator_by(w: Neighbours, like: Tensor, way: Way) -> Mix:
    """The same by a way of the caller's choice."""
    if way == "dense":
        dense = w.dense(like)
        return lambda matrix, plus: _by_product(dense, matrix, plus)
    if way == "sparse":
        csr = w.csr(like)
        return lambda matrix, plus: _by_product(csr, matrix, plus)
    by_parts = _compiled(w, like) if way == "compiled" else _by_rows(w)
    return lambda matrix, plus: _in_parts(by_parts, w.rows, matrix, plus)


def operator_of_blocks(ws: Sequence[Neighbours], like: Tensor) -> Mix:
    """The same for equal square blocks along a diagonal; no block's numbers touch another's, not even NaN."""
    import torch

    n, d = ws[0].n, like.shape[1]
    if len(ws) * n * n * d > SMALL_PRODUCT and not like.is_cuda:
        return operator_by(block_diagonal(ws), like, way_of(len(ws) * n, len(ws) * n, d, cuda=False, dense=False))
    blocks = torch.stack([w.dense(like) for w in ws])

    def mix(matrix: Tensor, plus: Scaled | None) -> Tensor:
        shaped = matrix.view(len(ws), n, d)
        if plus is None:
            return torch.bmm(blocks, shaped).view(-1, d)
        return torch.baddbmm(plus.params.matrix.view(len(ws), n, d), blocks, shaped, beta=plus.factor).view(-1, d)

    return mix


def block_diagonal(ws: Sequence[Neighbours]) -> Neighbours:
    """Several matrices along the diagonal of one."""
    rows = np.concatenate([[0], np.cumsum([len(w.sources) for w in ws])])
    columns = np.concatenate([[0], np.cumsum([w.n for w in ws])])
    return Neighbours(
        np.concatenate([w.starts[:-1] + at for w, at in zip(ws, rows, strict=False)] + [rows[-1:]]),
        np.concatenate([w.sources + at for w, at in zip(ws, columns, strict=False)]),
        np.concatenate([w.weights for w in ws]),
        int(columns[-1]),
    )


def _by_product(w: Tensor, matrix: Tensor, plus: Scaled | None) -> Tensor:
    import torch

    if plus is None:
        return w @ matrix
    if w.is_sparse_csr:
        return (w @ matrix).add_(plus.params.matrix, alpha=plus.factor)
    return torch.addmm(plus.params.matrix, w, matrix, beta=plus.factor)


Part = Callable[["Tensor", "Tensor", Scaled | None, int, int], None]


def _in_parts(fill: Part, rows: int, matrix: Tensor, plus: Scaled | None) -> Tensor:
    """A new tensor whose columns `fill` writes, each thread a range of them."""
    out = new_matrix(rows, matrix)
    over_parts(lambda start, stop: fill(out, matrix, plus, start, stop), matrix.shape[1])
    return out


def _by_rows(w: Neighbours) -> Part:
    """Each row the sum of the rows it hears, added one by one while the sum stays in the cache."""
    import torch

    def fill(out: Tensor, matrix: Tensor, plus: Scaled | None, start: int, stop: int) -> None:
        for low in range(start, stop, ROW_PART):
            part = slice(low, min(stop, low + ROW_PART))
            sums, parts = out[:, part].unbind(0), matrix[:, part].unbind(0)
            added = None if plus is None else plus.params.matrix[:, part].unbind(0)
            for i, heard in enumerate(w.heard):
                torch.mul(parts[heard[0][0]], heard[0][1], out=sums[i]) if heard else sums[i].zero_()
                for j, weight in heard[1:]:
                    sums[i].add_(parts[j], alpha=weight)
                if added is not None and plus is not None:
                    sums[i].add_(added[i], alpha=plus.factor)

    return fill


def _compiled(w: Neighbours, like: Tensor) -> Part:
    loop, kind = compiled_loop(), like.numpy().dtype.type
    weights = w.weights.astype(kind)

    def fill(out: Tensor, matrix: Tensor, plus: Scaled | None, start: int, stop: int) -> None:
        added, factor = (matrix, 0.0) if plus is None else (plus.params.matrix, plus.factor)
        arrays = (matrix.numpy(), added.numpy(), out.numpy())
        loop(w.starts, w.sources, weights, *arrays, kind(factor), plus is not None, start, stop, COLUMNS)

    return fill
