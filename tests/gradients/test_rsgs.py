"""RSGS: entropies of sure examples, and a gap that is orthogonal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from dsgd import trees
from dsgd.gradients.rsgs import Entropy, Rsgs
from dsgd.objectives import Batch, Objective, network
from dsgd.trees import Layout, Params
from tests.gradients.estimates import estimated, numbers


def everything(**knobs: Any) -> Rsgs:
    return Rsgs(**{"margin": math.inf, **knobs})


def test_rsgs_without_alpha_rho_and_margin_is_entropy_minimisation(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    entropy = objective.under(Entropy()).loss_and_grad(p)
    found = estimated(everything(rho=0, alpha=0), objective, p)
    torch.testing.assert_close(found.grads.matrix, entropy[1].matrix, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.loss, entropy[0])


def test_rsgs_moves_by_sure_examples_alone_and_not_at_all_without_any(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    entropies = Entropy()(objective.logits(p), objective.y)
    middle = float(entropies.median()) / math.log(10)
    found = estimated(Rsgs(rho=0, alpha=0, margin=middle), objective, p)
    chosen = (entropies < middle * math.log(10)).double()
    assert 0 < chosen.sum() < chosen.numel()
    expected = objective.under(Entropy()).loss_and_grad(p, chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1))[1]
    torch.testing.assert_close(found.grads.matrix, expected.matrix, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.gauges["kept"][:, 0], chosen.mean(dim=1))
    nobody = estimated(Rsgs(margin=1e-9), objective, p)
    assert not nobody.grads.matrix.any()
    assert not nobody.gauges["length"].any()


def test_rsgs_looks_again_who_is_sure_where_it_has_moved_to(batch: tuple[Objective, Params]) -> None:
    """Those sure at both points, by the entropy of the scaled outputs."""
    objective, p = batch
    entropy = Entropy(1.7)
    limit = float(entropy(objective.logits(p), objective.y).median())
    gradient = Rsgs(rho=2.0, alpha=0.3, margin=limit / math.log(10), scale=1.7)
    under = objective.under(entropy)
    sure = entropy(objective.logits(p), objective.y) < limit
    g = under.loss_and_grad(p, sure / sure.sum(dim=1, keepdim=True).clamp(min=1).double())[1]
    worst = p + g * (2.0 / (trees.norm(g) + 1e-12))
    then = entropy(objective.logits(worst), objective.y) < limit
    assert (sure & ~then).any() or (~sure & then).any()
    both = sure & then
    h = under.loss_and_grad(worst, both / both.sum(dim=1, keepdim=True).clamp(min=1).double())[1]
    share = trees.dot(g, h) / trees.dot(h, h).clamp(min=1e-30)
    expected = (h - (g - h * share) * 0.3) * both.any(dim=1).double()
    torch.testing.assert_close(estimated(gradient, objective, p).grads.matrix, expected.matrix, rtol=1e-9, atol=1e-12)


def test_rsgs_takes_away_what_is_orthogonal_to_the_perturbed_gradient(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    with_, without = (estimated(everything(rho=0.5, alpha=alpha), objective, p).grads for alpha in (1.0, 0.0))
    taken = without - with_
    assert float((trees.dot(taken, without) / trees.dot(without, without)).abs().max()) < 1e-10
    assert float(trees.norm(taken).min()) > 1e-6


def test_rsgs_can_adapt_normalisation_layers_alone() -> None:
    from dsgd.models import ResNet8

    torch.manual_seed(0)
    net = network(ResNet8().build((3, 8, 8), 10).double(), "cross_entropy")
    p = Params(torch.cat([leaf.detach().reshape(-1) for leaf in net.module.parameters()])[None], net.layout)
    objective = Batch(net, torch.randn(1, 4, 3, 8, 8, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.int64))
    g = estimated(everything(adapts="normalisation"), objective, p).grads
    assert all(bool(leaf.any()) == ("bn" in name or "downsample.1" in name) for name, leaf in g.items())
    mlp = Params(numbers((1.0, 2.0)), Layout(("0.weight",), ((1, 2),)))
    with pytest.raises(ValueError, match="the model has no normalisation layers"):
        Rsgs(adapts="normalisation").init(mlp)
