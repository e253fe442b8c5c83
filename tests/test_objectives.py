"""The stacked objective against each replica's own autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsgd.models import Mlp
from dsgd.objectives import Batch, Tilted, network
from dsgd.trees import Params, stack


@pytest.fixture
def made() -> tuple[Batch, Params, list[torch.nn.Module]]:
    modules = [Mlp((5,)).build((6,), 3).double() for _ in range(4)]
    states = [module.state_dict() for module in modules]
    leaves = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    x, y = torch.randn(4, 7, 6, dtype=torch.float64), torch.randint(0, 3, (4, 7))
    return Batch(network(modules[0], "cross_entropy"), x, y), stack(leaves), modules


def test_loss_and_gradient_are_each_replicas_own(made: tuple[Batch, Params, list[torch.nn.Module]]) -> None:
    batch, p, modules = made
    loss, grads = batch.loss_and_grad(p)
    for j, module in enumerate(modules):
        own = cross_entropy(module(batch.x[j]), batch.y[j])
        own.backward()
        assert float(loss[j]) == pytest.approx(own.item(), rel=1e-12)
        for name, leaf in module.named_parameters():
            torch.testing.assert_close(grads[name][j], leaf.grad, rtol=1e-10, atol=1e-12)


def test_weights_replace_the_mean_over_examples(made: tuple[Batch, Params, list[torch.nn.Module]]) -> None:
    batch, p, _ = made
    weights = torch.randn(4, 7, dtype=torch.float64)
    loss, grads = batch.loss_and_grad(p, weights)
    torch.testing.assert_close(loss, (batch.losses(p) * weights).sum(dim=1))
    uniform = batch.loss_and_grad(p, torch.full((4, 7), 1 / 7).double())[1]
    torch.testing.assert_close(uniform.matrix, batch.loss_and_grad(p)[1].matrix)
    assert float((grads.matrix - uniform.matrix).norm()) > 0.1


def test_the_joint_batch_is_the_mean_of_the_replicas_batches(made: tuple[Batch, Params, list[torch.nn.Module]]) -> None:
    batch, p, _ = made
    centre = p.like(p.matrix[:1])
    joint = batch.joint().loss_and_grad(centre)[1].matrix[0]
    torch.testing.assert_close(joint, batch.loss_and_grad(p.like(p.matrix[:1].repeat(4, 1)))[1].matrix.mean(dim=0))


def test_a_tilt_adds_its_noise_to_the_gradient(made: tuple[Batch, Params, list[torch.nn.Module]]) -> None:
    batch, p, _ = made
    noise = torch.randn_like(p.matrix)
    tilted = Tilted(batch, noise)
    torch.testing.assert_close(tilted.loss_and_grad(p)[1].matrix, batch.loss_and_grad(p)[1].matrix + noise)
    weights = torch.full((4, 7), 2 / 7).double()
    torch.testing.assert_close(tilted.loss_and_grad(p, weights)[1].matrix, 2 * tilted.loss_and_grad(p)[1].matrix)
    torch.testing.assert_close(tilted.joint().noise, noise.mean(dim=0, keepdim=True))
