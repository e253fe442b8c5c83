"""The trace of the Gauss-Newton matrix: all of the Hessian's where the data are fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.knobs import check_least
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import NUMBERS_AT_ONCE, ProbeLoss, named, probe_losses

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GaussNewton:
    """Trace of the mean of J^T l'' J, J the Jacobian of an example's outputs, l'' its loss's Hessian by the outputs.

    Exact, in float64, over the first `examples` training examples, at the mean model and at the twins:
    `gauss_newton_trace`, a twin's with its name before it; None where the output is itself the loss. It is the trace of
    the loss's Hessian where losses are 0, and of a two-layer net of ReLUs everywhere but at kinks, for there an output
    has no second derivative by one parameter. Under (f - y)^2 it is 2 mean |grad f|^2 (Wen, Li & Ma 2023,
    arXiv 2307.11007, lemma 4.1).
    """

    examples: int = 1000
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1)

    def __call__(self, snapshot: Snapshot) -> Values:
        losses = probe_losses(snapshot, self.examples)
        return {named(name, "gauss_newton_trace"): _trace(loss) for name, loss in losses.items()}


def _trace(loss: ProbeLoss) -> float | None:
    from torch.func import grad, jacrev, vmap

    if loss.network.criterion == "output":
        return None

    def of_one(x: Tensor, y: Tensor) -> Tensor:
        def outputs(row: Tensor) -> Tensor:
            return loss.outputs_at(row, x[None])[0]

        def value(out: Tensor) -> Tensor:
            return loss.network.criterion_of(out[None], y[None])[0]

        jacobian: Tensor = jacrev(outputs)(loss.point)
        curved: Tensor = jacrev(grad(value))(outputs(loss.point))
        return (curved @ jacobian * jacobian).sum()

    outputs_of_one = loss.outputs_at(loss.point, loss.split.x[:1]).shape[-1]
    at_once = max(1, NUMBERS_AT_ONCE // (outputs_of_one * len(loss.point)))
    traces: Tensor = vmap(of_one, chunk_size=at_once)(loss.split.x, loss.split.y)
    return float(traces.mean())
