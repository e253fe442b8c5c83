"""Where training stands from the edge of stability: curvature over the largest at which a step is stable.

Agarwala & Dauphin 2023, arXiv 2302.08692; the edges are those of `dsgd.stability`, the replicas' are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from dsgd.curvature import largest_ritz_value
from dsgd.knobs import check_least
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import ProbeLoss, probe_losses, replica_losses
from dsgd.randomness import generator
from dsgd.stability import StepRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StabilityEdge:
    """The Hessian's largest eigenvalue over the largest at which the run's next step is stable: 1 at the edge.

    Of the mean model with the loss on the first `examples` training examples, float64: `edge_lambda_max` after
    `products` Lanczos steps, with its residual `edge_residual`; the gradient's length `edge_gradient`; `edge_gamma`, by
    which a rescaled gradient (SSAM) is shortened; the `edge_predicted` from these, the step's learning rate, rho,
    momentum, weight decay and, in the order `consensus`, the least eigenvalue of W; and `edge_ratio`, of the first over
    the last. None where no edge is known.

    `_replicas` are the means over replicas of the same, each with the loss on what it trains on. `edge_ensemble`, for
    plain gradients without momentum, is the largest eigenvalue of lr A H A - W on the replicas' joint space, H of each
    one's own loss, A = 1 in the order `consensus` and else W^(1/2): a step multiplies by its negative, so that 1 is the
    edge of the ensemble, whatever its shards. None where W has negative eigenvalues in the other orders.
    """

    reads_rule: ClassVar[bool] = True

    examples: int = 1000
    products: int = 24
    replicas: bool = True
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1, products=2)

    def __call__(self, snapshot: Snapshot) -> Values:
        rule, mean = snapshot.rule, self._of(probe_losses(snapshot, self.examples)[""], snapshot.rule, snapshot.seed)
        values: Values = {f"edge_{name}": value for name, value in mean.items()}
        if not self.replicas:
            return values
        each, alike = [mean], snapshot.shards is None and equal_up_to_rounding(snapshot.params.matrix)
        losses = replica_losses(snapshot, self.examples)
        if not alike:
            each = [self._of(loss, rule, snapshot.seed) for loss in losses]
        values |= {f"edge_{name}_replicas": _mean([one[name] for one in each]) for name in mean}
        return values | {"edge_ensemble": self._of_ensemble(losses, rule, snapshot.seed)}

    def _of(self, loss: ProbeLoss, rule: StepRule | None, seed: int) -> dict[str, float | None]:
        start = _start(loss.point, seed)
        value, residual = largest_ritz_value(lambda v: loss.hessian.products(v[None])[0], start, self.products)
        g = loss.gradients(loss.point[None])[0]
        length, found = float(g.norm()), {"lambda_max": value, "residual": residual}
        if rule is None:
            return found | {"gradient": length, "gamma": None, "predicted": None, "ratio": None}
        gamma = _gamma(loss, g, rule)
        edge = rule.edge(length, gamma)
        ratio = value / edge if edge else None
        return found | {"gradient": length, "gamma": gamma, "predicted": edge, "ratio": ratio}

    def _of_ensemble(self, losses: Sequence[ProbeLoss], rule: StepRule | None, seed: int) -> float | None:
        import torch

        if rule is None or rule.mixing is None or rule.around is None or len(rule.mixing) != len(losses):
            return None  # the last where some replicas are in quarantine
        like, lr = losses[0].point, rule.lr
        W, A = (torch.from_numpy(matrix).to(like) for matrix in (rule.mixing, rule.around))

        def product(flat: Tensor) -> Tensor:
            rows = flat.view(len(losses), -1)
            curved = [loss.hessian.products(row[None]) for loss, row in zip(losses, A @ rows, strict=True)]
            return (lr * A @ torch.cat(curved) - W @ rows).flatten()

        return largest_ritz_value(product, _start(like.new_empty(len(losses) * len(like)), seed), self.products)[0]


def _gamma(loss: ProbeLoss, g: Tensor, rule: StepRule) -> float:
    """|g| over the length of the gradient uphill, where the rule rescales by it."""
    length = float(g.norm())
    if not rule.rescaled or not length:
        return 1.0
    uphill = loss.gradients((loss.point + rule.uphill(length) * g)[None])[0]
    return length / float(uphill.norm())


def _start(like: Tensor, seed: int) -> Tensor:
    import torch

    return torch.from_numpy(generator(seed, "edge").standard_normal(len(like))).to(like)


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(values) else None
