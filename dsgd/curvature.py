"""Second derivatives of any scalar function of one row of parameters, by products with the Hessian.

Top eigenvalues by ARPACK's Lanczos iteration, with the residuals that bound their errors; the trace by Hutchinson's
estimator (1989) on what a few known directions leave, as in Hutch++ (Meyer et al. 2021, arXiv 2010.09649).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dsgd.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor"], "Tensor"]  # (d,) -> scalar
Grads = Callable[["Tensor"], "Tensor"]  # (k, d) -> (k, d)

DENSE = 32  # parameters up to which the whole matrix is as quick
TOLERANCE = 1e-6  # of an eigenvalue, relative
EXHAUSTED = 1e-12  # what is left of a direction, relative, where all of the space has been seen
MOST_ITERATIONS = 300  # restarts of ARPACK


@dataclass(frozen=True)
class Hessian:
    """The Hessian H at `point` (d,) of the sum of `losses`, as an operator.

    A mean over many examples is a sum of parts, so that the memory of a product is that of one part. The gradient of a
    single part is kept with its graph, and a product is one more backward pass through it.
    """

    losses: Sequence[Loss]
    point: Tensor

    @property
    def d(self) -> int:
        return self.point.shape[0]

    def products(self, directions: Tensor) -> Tensor:
        """H v for each row v of `directions` (k, d); shape (k, d)."""
        import torch

        out = torch.zeros_like(directions)
        for loss in self.losses:
            at, gradient = self._only if len(self.losses) == 1 else self._gradient(loss)
            if gradient.requires_grad:  # of a linear loss it is a constant
                for total, v in zip(out, directions, strict=True):
                    total += torch.autograd.grad(gradient, at, v, retain_graph=True, materialize_grads=True)[0]
        return out

    @cached_property
    def _only(self) -> tuple[Tensor, Tensor]:
        return self._gradient(self.losses[0])

    def _gradient(self, loss: Loss) -> tuple[Tensor, Tensor]:
        """A leaf at the point, and the gradient there with its graph."""
        import torch

        at = self.point.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True, materialize_grads=True)
        return at, gradient

    def forms(self, directions: Tensor) -> Tensor:
        """v^T H v for each row v of `directions` (k, d); shape (k,)."""
        return (directions * self.products(directions)).sum(dim=1)

    def trace_h_xi(self, deviations: Tensor) -> float:
        """tr(H Xi), Xi the covariance of replicas at these deviations (n, d) from their mean."""
        return float(self.forms(deviations).mean())


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues, in falling order, shape (k,), their unit vectors (k, d), and |H v - value v| (k,).

    An eigenvalue of H lies within the residual of each value.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor


def top_eigenvalues(hessian: Hessian, count: int = 1, seed: int = 0) -> Spectrum:
    """The `count` algebraically largest eigenvalues, or all there are; the iteration's start is keyed by `seed`.

    Fewer where the iteration ends before all have converged.
    """
    import torch

    count = min(count, hessian.d)
    vectors = _dense(hessian, count) if hessian.d <= max(DENSE, count + 1) else _lanczos(hessian, count, seed)
    products = hessian.products(vectors)
    values = (vectors * products).sum(dim=1)
    order = torch.argsort(values, descending=True)
    values, vectors, products = values[order], vectors[order], products[order]
    return Spectrum(values, vectors, (products - values[:, None] * vectors).norm(dim=1))


def largest_ritz_value(product: Callable[[Tensor], Tensor], start: Tensor, products: int) -> tuple[float, float]:
    """The largest Ritz value of a symmetric operator on (d,) after so many Lanczos steps, and its residual.

    At most the largest eigenvalue, and within the residual of one; all steps are kept orthogonal to each other. It
    costs so many products whatever the spectrum: where eigenvalues lie close together, value is had before vector.
    """
    import torch

    basis, alphas, betas = [start / start.norm()], list[float](), list[float]()
    while True:
        away = product(basis[-1])
        alphas.append(float(away @ basis[-1]))
        for _ in range(2):  # once leaves rounding errors behind
            known = torch.stack(basis)
            away = away - known.T @ (known @ away)
        betas.append(float(away.norm()))
        if len(alphas) == min(products, len(start)) or betas[-1] <= EXHAUSTED * max(map(abs, alphas)):
            break
        basis.append(away / betas[-1])
    values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas[:-1], 1) + np.diag(betas[:-1], -1))
    return float(values[-1]), abs(betas[-1] * float(vectors[-1, -1]))


def trace_samples(hessian: Hessian, probes: int, seed: int = 0, known: Tensor | None = None) -> Tensor:
    """Independent unbiased estimates of tr H, shape (probes,): one Rademacher vector each.

    `known` orthonormal directions (k, d), best the top eigenvectors, are taken exactly, and sampled is what they leave.
    """
    import torch

    signs = generator(seed, "trace").integers(0, 2, (probes, hessian.d), dtype=np.int8)
    vectors = torch.from_numpy(2 * signs - 1).to(hessian.point)
    if known is None or not len(known):
        return hessian.forms(vectors)
    return hessian.forms(known).sum() + hessian.forms(vectors - (vectors @ known.T) @ known)


def _dense(hessian: Hessian, count: int) -> Tensor:
    import torch

    matrix = hessian.products(torch.eye(hessian.d).to(hessian.point))
    return torch.linalg.eigh((matrix + matrix.T) / 2)[1].T[-count:]


def _lanczos(hessian: Hessian, count: int, seed: int) -> Tensor:
    """Unit vectors (at most count, d): those that have converged when the iterations end."""
    import torch
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    def product(v: np.ndarray) -> np.ndarray:
        found: np.ndarray = hessian.products(torch.from_numpy(v.reshape(1, -1)).to(hessian.point))[0].cpu().numpy()
        return found

    start = generator(seed, "eigenvalues").standard_normal(hessian.d)
    operator = LinearOperator((hessian.d, hessian.d), matvec=product, dtype=np.float64)
    columns: np.ndarray
    try:
        columns = eigsh(operator, count, which="LA", v0=start, tol=TOLERANCE, maxiter=MOST_ITERATIONS)[1]
    except ArpackNoConvergence as error:
        columns = error.eigenvectors
    except ArpackError:
        if product(start).any():
            raise
        columns = np.eye(hessian.d, count)  # H is zero, as where each output is saturated
    return torch.from_numpy(np.ascontiguousarray(columns.T.real)).to(hessian.point)
