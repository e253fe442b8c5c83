"""Up to which curvature a step is stable: the edge of gradient descent, of SAM and of their decentralised twins.

Linearised at a minimum, along an eigenvector of the Hessian with eigenvalue lambda, a step multiplies the distance by
1 - lr gamma lambda (1 + c lambda), where the gradient is taken c times the gradient uphill (Agarwala & Dauphin 2023,
arXiv 2302.08692; normalised: Long & Bartlett 2024, arXiv 2309.12488) and scaled by gamma. It turns unstable at -1.

Ours: a mode of D-SGD's replicas along which W has the eigenvalue mu is multiplied by mu - lr lambda in the order
`consensus`, where W is not applied to the gradient, so the first to turn unstable is that of the least mu: at
lr lambda = 1 + mu. In the other orders it is mu (1 - lr lambda), and the mean, mu = 1, is the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ascent = Literal["none", "gradient", "unit"]


@dataclass(frozen=True)
class StepRule:
    """What of a step decides its stability.

    The gradient is taken at w + rho g (`ascent` "gradient") or w + rho g / |g| ("unit"), and with `rescaled` brought to
    the length of g. `mode` is the least eigenvalue of what W does before the update: 1 where all replicas are stable if
    their mean is. `mixing` W and `around` A (n, n) give the step of all replicas by plain gradients without momentum:
    it has the eigenvalues of W - lr A H A, where H is block-diagonal, each replica's own; None where it is not known.
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    rho: float = 0.0
    ascent: Ascent = "none"
    rescaled: bool = False
    mode: float = 1.0
    mixing: npt.NDArray[np.float64] | None = None
    around: npt.NDArray[np.float64] | None = None

    def uphill(self, length: float) -> float:
        """How many gradients of this length lie between w and where the gradient is taken."""
        if self.ascent == "none" or not self.rho:
            return 0.0
        return self.rho if self.ascent == "gradient" else self.rho / length if length else math.inf

    def edge(self, length: float = 1.0, gamma: float = 1.0, mode: float | None = None) -> float:
        """The largest stable eigenvalue of the Hessian where the gradient has this length; 0 where none is.

        `mode` by default is the least stable one; 1 is that of the mean.
        """
        mode = self.mode if mode is None else mode
        turns = 1 + 2 * self.momentum if self.nesterov else 1.0
        effective = (1 + mode) * (1 + self.momentum) / turns / self.lr - self.weight_decay
        return _solved(self.uphill(length), max(0.0, effective) / gamma)


def _solved(c: float, effective: float) -> float:
    """The lambda >= 0 at which lambda (1 + c lambda) = effective, in a form that c -> 0 leaves exact."""
    if math.isinf(c):
        return 0.0
    return 2 * effective / (1 + math.sqrt(1 + 4 * c * effective))
