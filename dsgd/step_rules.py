"""What linear stability theory has to know of a run's step; None where there is no closed form for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dsgd.gossip import Once
from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.optimizers import Sgd
from dsgd.run import Run
from dsgd.stability import StepRule
from topologies.eigenvalues import is_symmetric
from topologies.matrices import as_csr

MOST_REPLICAS = 1024  # whose W is looked at whole
ROUNDING = 1e-12

Matrix = npt.NDArray[np.float64]


def step_rule(run: Run, step: int) -> StepRule | None:
    """The rule of the step after `step` steps: of SGD by plain, SAM, USAM or SSAM gradients, with one gossip a step.

    None for others; and in the order consensus where W changes from step to step, is not symmetric or is very large.
    """
    looking = _uphill(run.gradient, step)
    if looking is None or not isinstance(run.optimizer, Sgd) or type(run.gossip) is not Once:
        return None
    own = {name: getattr(run.optimizer, name) for name in ("momentum", "nesterov", "weight_decay")}
    lr = run.when(min(step, run.steps - 1)).lr
    W = _mixing(run)
    if run.algorithm == "consensus":
        if W is None:
            return None
        own["mode"] = float(np.linalg.eigvalsh(W).min())
    if W is not None and not looking and not any(own[name] for name in ("momentum", "weight_decay")):
        own |= {"mixing": W, "around": np.eye(run.n) if run.algorithm == "consensus" else _root(W)}
    return StepRule(lr, **own, **looking)


def _uphill(gradient: Gradient, step: int) -> dict[str, Any] | None:
    match gradient:
        case Plain():
            return {}
        case Sam():
            return {"rho": gradient.rho_at(step), "ascent": "unit"}
        case Usam(rho):
            return {"rho": rho, "ascent": "gradient"}
        case Ssam(rho, ascent):
            return {"rho": rho, "ascent": "unit" if ascent == "sam" else "gradient", "rescaled": True}
    return None


def _mixing(run: Run) -> Matrix | None:
    """The one symmetric W of every step."""
    if run.n > MOST_REPLICAS:
        return None
    if run.algorithm == "centralized":
        return np.full((run.n, run.n), 1 / run.n)
    if run.schedule.period != 1:
        return None
    W: Matrix = as_csr(run.schedule(0)).toarray()
    return W if is_symmetric(W) else None


def _root(W: Matrix) -> Matrix | None:
    """The square root of W, around which W (1 - lr H) is symmetric; None where W has a negative eigenvalue."""
    values, vectors = np.linalg.eigh(W)
    if values.min() < -ROUNDING:
        return None
    root: Matrix = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root
