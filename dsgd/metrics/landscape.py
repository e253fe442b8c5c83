"""The training loss on a line or a plane of parameters around the mean model, and around each twin.

    loss(x, y) = L(w + x d_1 + y d_2),   x and y from -reach to reach
The directions d are, by kind,
    random        keyed Gaussians, filter-normalised: each filter (or row) of d has the norm of the weights' own filter,
                  and biases and the parameters of normalisation are left alone (Li et al. 2018, arXiv 1712.09913,
                  section 4), so that x = 1 changes every filter by as much as it is long
    eigenvectors  of the largest eigenvalues of the Hessian at w, of length 1
    replicas      the principal axes of the replicas' deviations from their mean, of length 1: no other plane through
                  the mean lies closer to the replicas
A twin is looked at around itself, on the mean model's grid: along its own normalisation of the same random numbers, its
own eigenvectors, the same axes of the replicas. Running statistics of batch normalisation stay those of the centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dsgd import trees
from dsgd.curvature import top_eigenvalues
from dsgd.knobs import check_least, check_most
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import NUMBERS_AT_ONCE, ProbeLoss, named, probe_losses
from dsgd.perturbations import cloud
from dsgd.randomness import normal
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

ROOM = 1.25  # how much farther than its farthest replica the replicas' plane reaches


def landscape(centre: Tensor, directions: Tensor, at: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The loss at centre (d,) + c @ directions for all coordinates c of the grid; `loss` maps rows (m, d) to (m,).

    Along one direction (1, d) in the order of `at` (points,). Of a plane (2, d) the value at x = at[i], y = at[j] is
    number j points + i of points^2.
    """
    import torch

    c = torch.cartesian_prod(*[at] * len(directions)).view(-1, len(directions)).flip(1)
    blocks = c.split(max(1, NUMBERS_AT_ONCE // len(centre)))
    return torch.cat([loss(centre + block @ directions) for block in blocks])


def filter_normalised(noise: Params, centre: Params) -> Tensor:
    """`noise` (k, d) with each filter as long as that of `centre` (1, d); zero in biases and in normalisation."""
    import torch

    left_alone = trees.normalisation_names(centre) | {name for name in centre if name.rpartition(".")[2] == "bias"}

    def scaled(name: str) -> Tensor:
        filters, own = _filters(noise[name]), _filters(centre[name])
        factors = 0.0 if name in left_alone else own.norm(dim=2, keepdim=True) / filters.norm(dim=2, keepdim=True)
        return (filters * factors).flatten(1)

    return torch.cat([scaled(name) for name in noise], dim=1)


def _filters(leaf: Tensor) -> Tensor:
    """A leaf (rows, ...) as (rows, filters, numbers): its first axis counts filters; a vector or a number is one."""
    return leaf.flatten(2) if leaf.dim() > 2 else leaf.reshape(len(leaf), 1, -1)


def principal_axes(rows: Tensor) -> Tensor:
    """The axes of N(0, Xi) of the rows (n, d), of length 1, the widest first, each with its sign fixed: (rank, d)."""
    axes = cloud(rows).axes.flip(0)
    return with_signs(axes / axes.norm(dim=1, keepdim=True))


def with_signs(axes: Tensor) -> Tensor:
    """The axes (k, d), each turned so that its largest number is positive, for it has no sign of its own."""
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return axes * largest.sign()


@dataclass(frozen=True)
class Directions:
    """Rows (k, d), k at most what was asked for, and how far the grid reaches along them unless told."""

    rows: Tensor
    reach: float


def random_directions(around: ProbeLoss, replicas: Tensor, count: int, seed: int) -> Directions:
    """Filter-normalised Gaussian directions, the same numbers around every model."""
    import torch

    noise = torch.stack([normal((around.own.d,), seed, "landscape", k) for k in range(count)]).to(around.point)
    return Directions(filter_normalised(Params(noise, around.own), Params(around.point[None], around.own)), 1.0)


def eigenvectors(around: ProbeLoss, replicas: Tensor, count: int, seed: int) -> Directions:
    """The top eigenvectors of the Hessian at the model; fewer where the iteration did not find as many."""
    found = top_eigenvalues(around.hessian, count, seed)
    rises = len(found.values) > 0 and float(found.values[0]) > 0
    return Directions(with_signs(found.vectors), math.sqrt(2 / float(found.values[0])) if rises else 1.0)


def replica_directions(around: ProbeLoss, replicas: Tensor, count: int, seed: int) -> Directions:
    """The widest principal axes of the replicas; none where these are equal up to the rounding of their dtype."""
    if equal_up_to_rounding(replicas):
        return Directions(around.point.new_zeros(0, around.own.d), 1.0)
    axes = principal_axes(replicas.double())[:count]
    return Directions(axes, ROOM * float(coordinates(replicas, axes).abs().max()))


def coordinates(rows: Tensor, axes: Tensor) -> Tensor:
    """Where the rows (n, d) lie from their mean along orthonormal axes (k, d); shape (n, k)."""
    return cloud(rows.double()).deviations @ axes.T


@dataclass(frozen=True)
class Kind:
    """`directions(around, replicas, count, seed)` in which a landscape looks, and what its two axes are."""

    directions: Callable[[ProbeLoss, Tensor, int, int], Directions]
    x_label: str
    y_label: str


KINDS: dict[str, Kind] = {
    "random": Kind(random_directions, "filter norms along a random direction", "along another"),
    "eigenvectors": Kind(eigenvectors, "distance along the first Hessian eigenvector", "along the second"),
    "replicas": Kind(replica_directions, "distance along the replicas' widest axis", "along their second"),
}


@dataclass(frozen=True)
class Landscape:
    """`landscape_KIND_loss` around the mean model, `TWIN_landscape_KIND_loss` around a twin, for coordinates `_at`.

    KIND is one of KINDS (`dsgd list landscapes`). The loss is that of the first `examples` training examples, in
    float64, at `points` coordinates along each of 1 or 2 `dimensions`; in two, number j points + i of the values is
    that at x = at[i], y = at[j]. None where it is not finite. The coordinates end at `reach`: by default 1 (random),
    where the quadratic model along the first eigenvector has risen by 1, or 1.25 times as far as the farthest replica.

    Along eigenvectors and replicas, `_replicas_x` and, in two dimensions, `_replicas_y` are the replicas' own
    coordinates, and `_replicas_share` is the share of Tr Xi that lies along them. Where there are fewer directions than
    dimensions there are no values: two replicas span a line, and equal ones nothing.
    """

    kind: str = "random"
    dimensions: int = 2
    points: int = 31
    reach: float | None = None
    examples: int = 1000
    seed: int = 0
    every: int | None = 0

    apart: ClassVar[tuple[str, ...]] = ("kind",)

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1)
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind}; allowed are {', '.join(KINDS)}")
        if self.dimensions not in (1, 2):
            raise ValueError(f"dimensions is {self.dimensions}; it must be 1 or 2")
        check_least(self, points=2)
        check_most(self, points=1000)
        if self.reach is not None and not 0 < self.reach < math.inf:
            raise ValueError(f"reach is {self.reach}; it must be above 0 and finite")

    def __call__(self, snapshot: Snapshot) -> Values:
        import torch

        prefix, replicas = f"landscape_{self.kind}", snapshot.params.matrix
        models = probe_losses(snapshot, self.examples)
        directions = KINDS[self.kind].directions
        along = {name: directions(around, replicas, self.dimensions, self.seed) for name, around in models.items()}
        if any(len(found.rows) < self.dimensions for found in along.values()):
            return {}
        reach = along[""].reach if self.reach is None else self.reach
        at = torch.linspace(-reach, reach, self.points, dtype=torch.float64)
        values: Values = {f"{prefix}_at": at.tolist()}
        for name, around in models.items():
            found = landscape(around.point, along[name].rows, at.to(around.point), around.losses)
            values[named(name, f"{prefix}_loss")] = [loss if math.isfinite(loss) else None for loss in found.tolist()]
        return values | ({} if self.kind == "random" else _of_replicas(prefix, replicas, along[""].rows))


def _of_replicas(prefix: str, replicas: Tensor, axes: Tensor) -> Values:
    """Their coordinates, and the share of their squared distances from the mean that these hold."""
    found, trace = coordinates(replicas, axes), float(cloud(replicas.double()).trace)
    values: Values = {f"{prefix}_replicas_{axis}": found[:, k].tolist() for k, axis in enumerate("xy"[: len(axes)])}
    share = float(found.square().sum()) / (len(found) * trace) if trace else None
    return values | {f"{prefix}_replicas_share": share}
