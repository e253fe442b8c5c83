"""Algebra on the parameters of many replicas at once, row by row.

Code written with these operations reads as if for one replica: a norm or an inner product reduces all but the leading
replica axis, and a number a replica broadcasts over that replica's parameters.

>>> import torch
>>> from dsgd import trees
>>> p = trees.stack({"w": torch.tensor([[3.0, 4.0], [0.0, 1.0]])})  # two replicas
>>> trees.norm(p)
tensor([5., 1.])
>>> trees.mean(p)["w"]
tensor([[1.5000, 2.5000]])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dsgd.matrices import new_matrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TINY = 1e-12  # added to a length that divides: a gradient of zero moves nothing
NUMBERS_IN_CACHE = 2**18  # of each of some four matrices: a core's own cache holds a row of them and its temporaries


@dataclass(frozen=True)
class Layout:
    """Names and shapes of one replica's parameters, in the order in which they lie in its row of d numbers."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @cached_property
    def d(self) -> int:
        """Number of parameters of one replica."""
        return sum(self.sizes)

    @cached_property
    def spans(self) -> dict[str, tuple[int, int, tuple[int, ...]]]:
        """For each name: where its numbers start in the row, how many they are, and the leaf's shape."""
        starts = [sum(self.sizes[:i]) for i in range(len(self.sizes))]
        return {
            name: (start, size, shape)
            for name, start, size, shape in zip(self.names, starts, self.sizes, self.shapes, strict=True)
        }

    def leaf(self, numbers: Tensor, name: str) -> Tensor:
        """The view of shape (..., *shape) of one leaf in `numbers` (..., d)."""
        start, size, shape = self.spans[name]
        return numbers.narrow(-1, start, size).reshape((*numbers.shape[:-1], *shape))

    def leaves(self, numbers: Tensor) -> dict[str, Tensor]:
        """All leaves of `numbers` (..., d) by name."""
        return {name: self.leaf(numbers, name) for name in self.names}


class Params(Mapping[str, "Tensor"]):
    """Parameters of a block of replicas: a mapping from names to views, shape (rows, ...), of one matrix (rows, d).

    `p + q`, `p - q` and `p * a` return new values; `a` is a number or a tensor of shape (rows,); q may be `Scaled`.
    """

    __slots__ = ("layout", "matrix")

    def __init__(self, matrix: Tensor, layout: Layout) -> None:
        self.matrix = matrix
        self.layout = layout

    def __getitem__(self, name: str) -> Tensor:
        return self.layout.leaf(self.matrix, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.names)

    def __len__(self) -> int:
        return len(self.layout.names)

    @property
    def rows(self) -> int:
        return self.matrix.shape[0]

    def like(self, matrix: Tensor) -> Params:
        """The same leaves over another matrix (rows, d)."""
        return Params(matrix, self.layout)

    def row(self, i: int) -> Params:
        """The i-th row alone."""
        return self.like(self.matrix[i : i + 1])

    def __add__(self, other: Params | Scaled) -> Params:
        if isinstance(other, Scaled):
            return self._plus(other)
        return self.like(self.matrix + other.matrix)

    def _plus(self, other: Scaled) -> Params:
        import torch

        added = other.params.matrix
        out = new_matrix(added.shape[0], added)
        return self.like(torch.add(self.matrix, added, alpha=other.factor, out=out))

    def __sub__(self, other: Params) -> Params:
        return self.like(self.matrix - other.matrix)

    def __mul__(self, factor: float | Tensor) -> Params:
        if isinstance(factor, int | float):
            return self.like(self.matrix * factor)
        return self.like(self.matrix * factor.unsqueeze(1))

    __rmul__ = __mul__


@dataclass(frozen=True)
class Scaled:
    """`factor` * `params`, not multiplied out: whoever adds it does so in the same pass over memory."""

    params: Params
    factor: float

    def __mul__(self, factor: float) -> Scaled:
        return Scaled(self.params, self.factor * factor)


def stack(leaves: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Params:
    """Params from stacked leaves, each of shape (rows, ...); `dtype` converts."""
    import torch

    if isinstance(leaves, Params):
        return leaves if dtype is None else leaves.like(leaves.matrix.to(dtype))
    layout = Layout(tuple(leaves), tuple(tuple(leaf.shape[1:]) for leaf in leaves.values()))
    matrix = torch.cat([leaf.detach().reshape(leaf.shape[0], -1) for leaf in leaves.values()], dim=1)
    return Params(matrix if dtype is None else matrix.to(dtype), layout)


def dot(p: Params, q: Params) -> Tensor:
    """Inner product of each replica's parameters, shape (rows,); on CPUs row by row, without a matrix of products."""
    import torch

    if p.matrix.is_cuda:
        return (p.matrix * q.matrix).sum(dim=1)
    return torch.stack([torch.dot(a, b) for a, b in zip(p.matrix, q.matrix, strict=True)])


def norm(p: Params) -> Tensor:
    """Euclidean norm over all of each replica's parameters, shape (rows,)."""
    return p.matrix.norm(dim=1)


def moved(p: Params, direction: Params, factor: Tensor, out: Tensor | None = None) -> Params:
    """p + factor * direction in one pass, the factor (rows,); `out` may be the direction's own matrix."""
    import torch

    out = new_matrix(p.rows, p.matrix) if out is None else out
    return p.like(torch.addcmul(p.matrix, direction.matrix, factor.unsqueeze(1), out=out))


def combined(p: Params, a: Tensor, q: Params, b: float) -> Params:
    """a p + b q, a (rows,)."""
    import torch

    def sums(out: Tensor, p: Tensor, q: Tensor, a: Tensor) -> None:
        torch.mul(p, a, out=out).add_(q, alpha=b)

    return by_blocks(sums, p, q.matrix, a.unsqueeze(1))


def by_blocks(fill: Callable[..., None], p: Params, *others: Tensor) -> Params:
    """What `fill(out, p's matrix, *others)` writes, row by row; others (rows, ...). On the CPU a few rows at a time.

    So what is made on the way stays in the cache.
    """
    out = new_matrix(p.rows, p.matrix)
    size = p.rows if p.matrix.is_cuda else max(1, NUMBERS_IN_CACHE // p.layout.d)
    for start in range(0, p.rows, size):
        rows = slice(start, start + size)
        fill(out[rows], p.matrix[rows], *(other[rows] for other in others))
    return p.like(out)


def mean(p: Params) -> Params:
    """The mean over replicas, one row."""
    return p.like(p.matrix.mean(dim=0, keepdim=True))


def leaf_norms(p: Params) -> Tensor:
    """Norm of every leaf of every replica, spread over that leaf's numbers: shape (rows, d)."""
    return _spread(p, [leaf.reshape(p.rows, -1).norm(dim=1, keepdim=True) for leaf in p.values()])


def leaf_dots(p: Params, q: Params) -> Tensor:
    """Inner product of every leaf of p with that of q, spread over that leaf's numbers: shape (rows, d)."""
    leaves = zip(p.values(), q.values(), strict=True)
    return _spread(p, [(a * b).reshape(p.rows, -1).sum(dim=1, keepdim=True) for a, b in leaves])


def _spread(p: Params, numbers: Sequence[Tensor]) -> Tensor:
    """A number (rows, 1) a leaf to (rows, d)."""
    import torch

    return torch.cat([each.expand(-1, size) for each, size in zip(numbers, p.layout.sizes, strict=True)], dim=1)


def normalisation_names(p: Params) -> set[str]:
    """Names of the weights and biases of normalisation layers: their weights alone are vectors."""
    layers = {name.removesuffix("weight") for name, leaf in p.items() if name.endswith("weight") and leaf.dim() == 2}
    return {name for name in p if any(name in (f"{layer}weight", f"{layer}bias") for layer in layers)}


def leaves_of(p: Params, names: Collection[str]) -> Tensor:
    """Which of the d numbers are of leaves with these names."""
    import torch

    sizes = torch.tensor(p.layout.sizes)
    chosen = torch.tensor([name in names for name in p.layout.names])
    return chosen.repeat_interleave(sizes).to(p.matrix.device)
