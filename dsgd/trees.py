"""Algebra on the parameters of many replicas at once, row by row.

Code written with these operations reads as if for one replica: a norm or an inner product reduces all but the leading
replica axis, and a number a replica broadcasts over that replica's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dsgd.matrices import new_matrix

if TYPE_CHECKING:
    import torch
    from torch import Tensor


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
    """Inner product of each replica's parameters, shape (rows,)."""
    return (p.matrix * q.matrix).sum(dim=1)


def norm(p: Params) -> Tensor:
    """Euclidean norm over all of each replica's parameters, shape (rows,)."""
    return p.matrix.norm(dim=1)


def mean(p: Params) -> Params:
    """The mean over replicas, one row."""
    return p.like(p.matrix.mean(dim=0, keepdim=True))


def leaf_norms(p: Params) -> Tensor:
    """Norm of every leaf of every replica, spread over that leaf's numbers: shape (rows, d)."""
    import torch

    norms = [leaf.reshape(p.rows, -1).norm(dim=1, keepdim=True) for leaf in p.values()]
    return torch.cat([n.expand(-1, size) for n, size in zip(norms, p.layout.sizes, strict=True)], dim=1)
