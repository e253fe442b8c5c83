"""What to do with a gradient: the update that is added to the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dsgd import trees
from dsgd.knobs import check_least
from dsgd.matrices import new_matrix
from dsgd.state import Memory
from dsgd.trees import Params, Scaled

if TYPE_CHECKING:
    from torch import Tensor


class Optimizer(Protocol):
    """`update` returns the change of the parameters, a direction times -lr, and the new memory; it mutates nothing."""

    def init(self, p: Params) -> Memory: ...
    def update(self, grads: Params, memory: Memory, p: Params, lr: float) -> tuple[Scaled, Memory]: ...


def _in_unit_interval(**knobs: float) -> None:
    for name, value in knobs.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}; it must be in [0, 1)")


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum and weight decay as in Sutskever et al. 2013: v = momentum v + g, w = w - lr v.

    `weight_decay` adds weight_decay * w to the gradient; `nesterov` steps along g + momentum v.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _in_unit_interval(momentum=self.momentum)
        check_least(self, weight_decay=0)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov is true and momentum 0; set momentum above 0 or nesterov false")

    def init(self, p: Params) -> Memory:
        return {"momentum": new_matrix(p.rows, p.matrix).zero_()} if self.momentum else {}

    def update(self, grads: Params, memory: Memory, p: Params, lr: float) -> tuple[Scaled, Memory]:
        g = grads + Scaled(p, self.weight_decay) if self.weight_decay else grads
        if not self.momentum:
            return Scaled(g, -lr), memory
        v = g + Scaled(p.like(memory["momentum"]), self.momentum)
        direction = g + Scaled(v, self.momentum) if self.nesterov else v
        return Scaled(direction, -lr), {"momentum": v.matrix}


@dataclass(frozen=True)
class ProjectedSgd:
    """SGD after whose step each of `leaves`, by default of all, is no longer than `radius`: projected onto a ball each.

    It is the replica's own parameters that are within after their own step: what gossip makes of them need not be.
    """

    radius: float = 10.0
    leaves: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius is {self.radius}; it must be greater than 0 and finite")

    def init(self, p: Params) -> Memory:
        if unknown := [name for name in self.leaves if name not in p.layout.spans]:
            raise ValueError(f"leaves has {unknown[0]}, but those of the model are {', '.join(p)}")
        return {}

    def update(self, grads: Params, memory: Memory, p: Params, lr: float) -> tuple[Scaled, Memory]:
        stepped = p + Scaled(grads, -lr)
        for name in self.leaves or p:
            leaf = stepped[name].flatten(1)
            leaf.mul_((self.radius / leaf.norm(dim=1, keepdim=True)).clamp_(max=1))
        return Scaled(stepped - p, 1.0), memory


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay: Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        _in_unit_interval(beta1=self.beta1, beta2=self.beta2)
        check_least(self, eps=0, weight_decay=0)

    def init(self, p: Params) -> Memory:
        return _moments_at_zero(p)

    def update(self, grads: Params, memory: Memory, p: Params, lr: float) -> tuple[Scaled, Memory]:
        ratio, memory = _adam_ratio(grads, memory, self.beta1, self.beta2, self.eps)
        return Scaled(p.like(ratio.add(p.matrix, alpha=self.weight_decay)), -lr), memory


@dataclass(frozen=True)
class Lamb:
    """LAMB: You et al. 2020, arXiv 1904.00962, algorithm 2: Adam's direction, each leaf's part scaled to its norm."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _in_unit_interval(beta1=self.beta1, beta2=self.beta2)
        check_least(self, eps=0, weight_decay=0)

    def init(self, p: Params) -> Memory:
        return _moments_at_zero(p)

    def update(self, grads: Params, memory: Memory, p: Params, lr: float) -> tuple[Scaled, Memory]:
        ratio, memory = _adam_ratio(grads, memory, self.beta1, self.beta2, self.eps)
        direction = p.like(ratio.add(p.matrix, alpha=self.weight_decay))
        weights, steps = trees.leaf_norms(p), trees.leaf_norms(direction)
        trust = (weights / steps).where((weights > 0) & (steps > 0), weights.new_ones(()))
        return Scaled(p.like(direction.matrix * trust), -lr), memory


def _moments_at_zero(p: Params) -> Memory:
    zeros = p.matrix.new_zeros(p.matrix.shape)
    return {"first": zeros, "second": zeros.clone(), "count": p.matrix.new_zeros(p.rows, 1)}


def _adam_ratio(grads: Params, memory: Memory, beta1: float, beta2: float, eps: float) -> tuple[Tensor, Memory]:
    """The bias-corrected m / (sqrt(v) + eps), shape (rows, d), and the new moments."""
    g = grads.matrix
    first = memory["first"].lerp(g, 1 - beta1)
    second = (memory["second"] * beta2).addcmul(g, g, value=1 - beta2)
    count = memory["count"] + 1
    ratio = (first / (1 - beta1**count)) / ((second / (1 - beta2**count)).sqrt() + eps)
    return ratio, {"first": first, "second": second, "count": count}


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "projected_sgd": ProjectedSgd, "adamw": AdamW, "lamb": Lamb}
