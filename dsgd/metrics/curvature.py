"""How curved the training loss is at the mean model, and how the replicas' spread lies in that curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.curvature import Spectrum, top_eigenvalues, trace_samples
from dsgd.knobs import check_least, check_most
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.metric import Snapshot, Values, check_every
from dsgd.metrics.probe_loss import ProbeLoss, named, probe_losses
from dsgd.perturbations import cloud
from dsgd.statistics import t_interval

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Curvature:
    """Largest eigenvalues and trace of the loss's Hessian H, and how the replicas' covariance Xi lies in its curvature.

    H is that of the loss on the first `examples` training examples, in float64, at the mean model and at the twins.
    `lambda_max`, `hessian_eigenvalues` (the `eigenvalues` largest, falling) with `hessian_residuals`, which bound their
    errors, and `hessian_trace` with its 95 % interval `_lo`, `_hi` over `probes` random vectors (0: no trace); a twin's
    carry its name before them. Of the replicas' covariance Xi, rank r, d parameters, k eigenvalues:

    - `half_trace_h_xi` = tr(H Xi) / 2, exact: the theorem's regulariser, mean_j L(w_j) - L(mean) up to third order
    - `alignment` = tr(H Xi) / (Tr Xi lambda_max), at most 1; `alignment_normalised` = d tr(H Xi) / (Tr Xi tr H), 1
      where Xi knows nothing of H
    - `effective_rank` = (Tr Xi)^2 / Tr Xi^2, from 1 to r
    - `span_overlap`, the mean share of a top eigenvector that lies in span{w_j - mean} (by chance r / d), and
      `xi_in_top`, the share of Tr Xi in the top eigenspace (by chance k / d); Dimlioglu & Choromanska 2026, 2605.27739

    What is a quotient by Tr Xi is None where all replicas are equal up to rounding, and like `lambda_max` where no
    eigenvalue has converged.
    """

    examples: int = 1000
    eigenvalues: int = 1
    probes: int = 32
    every: int | None = 0

    def __post_init__(self) -> None:
        check_every(self.every)
        check_least(self, examples=1, eigenvalues=1)
        check_most(self, eigenvalues=1000, probes=1_000_000)
        if self.probes < 0 or self.probes == 1:
            raise ValueError(f"probes is {self.probes}; it must be at least 2, or 0 for no trace")

    def __call__(self, snapshot: Snapshot) -> Values:
        values: Values = {}
        for name, loss in probe_losses(snapshot, self.examples).items():
            spectrum = top_eigenvalues(loss.hessian, self.eigenvalues, snapshot.seed)
            trace = self._trace(loss, spectrum, snapshot.seed)
            own = _of_spectrum(spectrum) | trace
            values |= {named(name, key): value for key, value in own.items()}
            if not name:
                values |= _of_spread(loss, spectrum, snapshot.params.matrix, trace.get("hessian_trace"))
        return values

    def _trace(self, loss: ProbeLoss, spectrum: Spectrum, seed: int) -> dict[str, float | None]:
        if not self.probes:
            return {}
        samples = trace_samples(loss.hessian, self.probes, seed, spectrum.vectors)
        found = t_interval(samples.tolist())
        return {"hessian_trace": found.estimate, "hessian_trace_lo": found.lo, "hessian_trace_hi": found.hi}


def _of_spectrum(spectrum: Spectrum) -> Values:
    return {
        "lambda_max": float(spectrum.values[0]) if len(spectrum.values) else None,
        "hessian_eigenvalues": spectrum.values.tolist(),
        "hessian_residuals": spectrum.residuals.tolist(),
    }


def _of_spread(loss: ProbeLoss, spectrum: Spectrum, replicas: Tensor, trace: float | None) -> Values:
    spread = cloud(replicas.double())
    trace_xi, trace_h_xi = float(spread.trace), loss.hessian.trace_h_xi(spread.deviations)
    values: Values = {"half_trace_h_xi": trace_h_xi / 2}
    if equal_up_to_rounding(replicas) or not len(spectrum.values):
        names = ("alignment", "alignment_normalised", "effective_rank", "span_overlap", "xi_in_top")
        return values | dict.fromkeys(names)
    values["alignment"] = _quotient(trace_h_xi, trace_xi * float(spectrum.values[0]))
    if trace is not None:
        values["alignment_normalised"] = _quotient(loss.hessian.d * trace_h_xi, trace_xi * trace)
    axes = spread.axes
    lengths = axes.norm(dim=1)  # principal: the rows of `axes` are orthogonal
    along = (axes / lengths[:, None]) @ spectrum.vectors.T
    return values | {
        "effective_rank": trace_xi**2 / float(lengths.pow(4).sum()),
        "span_overlap": float(along.square().sum() / len(spectrum.values)),
        "xi_in_top": float((along * lengths[:, None]).square().sum()) / trace_xi,
    }


def _quotient(a: float, b: float) -> float | None:
    return a / b if b > 0 else None
