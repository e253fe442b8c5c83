"""CSAM: its loss's gradient in closed form, and where it is SAM."""

from __future__ import annotations

import pytest
import torch

from dsgd import trees
from dsgd.gradients.csam import Calibrated, Csam
from dsgd.gradients.sam import Sam
from tests.gradients.estimates import estimated, imbalanced


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_calibrated_losss_gradient_has_its_closed_form(gamma: float) -> None:
    outputs = (3 * torch.randn(50, 4, dtype=torch.float64)).requires_grad_()
    y = torch.randint(0, 4, (50,))
    p = outputs.softmax(dim=-1).gather(1, y[:, None])[:, 0].detach()
    (found,) = torch.autograd.grad(Calibrated(gamma, False)(outputs, y).sum(), outputs)
    factor = ((1 + p) ** -gamma * (1 - gamma * p * p.log() / (1 + p))).where(p > 0.5, 1.0)
    softmax_less_label = outputs.detach().softmax(dim=-1) - torch.nn.functional.one_hot(y, 4)
    torch.testing.assert_close(found, factor[:, None] * softmax_less_label, rtol=1e-12, atol=1e-14)
    (detached,) = torch.autograd.grad(Calibrated(gamma, True)(outputs, y).sum(), outputs)
    weight = ((1 + p) ** -gamma).where(p > 0.5, 1.0)
    torch.testing.assert_close(detached, weight[:, None] * softmax_less_label, rtol=1e-12, atol=1e-14)
    assert 0 < int((p > 0.5).sum()) < 50


def test_csam_is_sam_where_nobody_is_sure_and_without_gamma() -> None:
    objective, p = imbalanced(0, 1, 2, 0)
    unsure = p.like(0.01 * p.matrix)
    assert torch.equal(
        estimated(Csam(0.05, 0.0), objective, p).grads.matrix, estimated(Sam(0.05), objective, p).grads.matrix
    )
    torch.testing.assert_close(
        estimated(Csam(0.01, 2.0), objective, unsure).grads.matrix,
        estimated(Sam(0.01), objective, unsure).grads.matrix,
        rtol=1e-12,
        atol=1e-15,
    )
    found, other = (estimated(g, objective, p).grads.matrix for g in (Csam(0.05, 2.0), Sam(0.05)))
    assert float((found - other).norm() / other.norm()) > 0.01


def test_a_detached_weight_reaches_the_step() -> None:
    objective, p = imbalanced(0, 1, 2, 0)
    found, other = (estimated(Csam(0.05, 2.0, detach), objective, p).grads.matrix for detach in (True, False))
    worst = p + objective.loss_and_grad(p)[1] * (0.05 / trees.norm(objective.loss_and_grad(p)[1]))
    expected = objective.under(Calibrated(2.0, True)).loss_and_grad(worst)[1].matrix
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found, other, rtol=1e-3)
