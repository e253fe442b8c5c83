"""Trust-region aware minimization: Sherborne et al. 2024, arXiv 2310.03646, equations 4 to 9 and algorithms 1 and 2.

The paper is the specification; its public code never multiplies the perturbation by the gradient, and divides the
divergence by classes and examples once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dsgd.gradients.gradient import Estimate, check_choice
from dsgd.gradients.moves import adaptively_moved, fisher_moved
from dsgd.knobs import check_least
from dsgd.objectives import Objective
from dsgd.perturbations import Noise
from dsgd.state import Memory, When
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

Target = Literal["previous", "initial", "input", "fisher"]


@dataclass(frozen=True)
class Tram:
    """g = grad L_B(w + e), e = d w^2 h / |w h|, h = grad L_B(w), d a divergence of the model's predictions: no rho.

    d = `d_scale` times the mean over the mini-batch of KL(target || current), the target's predictions being those of
    the replica one step before (previous, before it mixed), of its start (initial), or at inputs with added noise of
    deviation `sigma` (input). fisher: e is Fisher SAM's, with `gamma` and `eta`, the squared gradient taken at such
    inputs; with `single_pass` h too. The metric `gauges` reports d, |e| as `length` and |e / w| as `own_length`.
    """

    row_wise: ClassVar[bool] = True
    cost: ClassVar[str] = "2 and 2 forward passes; fisher 3, or 2"
    classifies: ClassVar[bool] = True

    target: Target = "previous"
    sigma: float = 0.1
    d_scale: float = 1.0
    gamma: float = 0.1
    eta: float = 0.1
    single_pass: bool = False

    def __post_init__(self) -> None:
        check_choice("target", self.target, Target)
        check_least(self, sigma=0, d_scale=0, gamma=0, eta=0)

    def init(self, p: Params) -> Memory:
        return {"target": p.matrix.clone()} if self.target in ("previous", "initial") else {}

    def estimate(self, objective: Objective, p: Params, noise: Noise, memory: Memory, at: When) -> Estimate:
        if self.target == "fisher":
            return self._by_fisher(objective, p, noise, memory)
        loss, g = objective.loss_and_grad(p)
        d = self.distance(objective, p, noise, memory)
        point = adaptively_moved(p, g, d)
        grads = objective.loss_and_grad(point)[1]
        remembered = {"target": p.matrix} if self.target == "previous" else memory
        return Estimate(loss, grads, remembered, {"d": d, **_lengths(point, p)})

    def distance(self, objective: Objective, p: Params, noise: Noise, memory: Memory) -> Tensor:
        """d of every row, shape (rows, 1)."""
        current = objective.logits(p)
        if self.target == "input":
            target = noisy(objective, noise, self.sigma).logits(p)
        else:
            target = objective.logits(p.like(memory["target"]))
        return self.d_scale * divergence(target, current).unsqueeze(1)

    def _by_fisher(self, objective: Objective, p: Params, noise: Noise, memory: Memory) -> Estimate:
        loss, of = noisy(objective, noise, self.sigma).loss_and_grad(p)
        g = of
        if not self.single_pass:
            loss, g = objective.loss_and_grad(p)
        point = fisher_moved(p, g, of, self.gamma, self.eta)
        grads = objective.loss_and_grad(point)[1]
        return Estimate(loss, grads, memory, _lengths(point, p))


def noisy(objective: Objective, noise: Noise, sigma: float) -> Objective:
    """The objective with independent noise N(0, sigma^2) on every row's inputs, or on what tokens are embedded in."""
    shape = (len(noise.rows), objective.y.shape[-1], *objective.noise_shape)
    drawn = noise.normal(objective.x.new_empty(shape).flatten(1), "inputs")
    return objective.noised(sigma * drawn.view(shape))


def divergence(target: Tensor, current: Tensor) -> Tensor:
    """The mean over the mini-batch of KL(target || current), (rows,), of outputs (rows, B, classes)."""
    of, to = target.log_softmax(dim=-1), current.log_softmax(dim=-1)
    return (of.exp() * (of - to)).sum(dim=-1).mean(dim=-1).clamp(min=0)


def _lengths(point: Params, p: Params) -> dict[str, Tensor]:
    """|e|, and |e / w|, each parameter that is not 0 measured by its own size."""
    e = point.matrix - p.matrix
    length = e.norm(dim=1, keepdim=True)
    own = e.div_(p.matrix).masked_fill_(p.matrix == 0, 0)
    return {"length": length, "own_length": own.norm(dim=1, keepdim=True)}
