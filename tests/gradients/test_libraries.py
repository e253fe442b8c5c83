"""The steps of a widely used library."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsgd.gradients import Gradient
from dsgd.gradients.gsam import Gsam
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.sam import Sam
from dsgd.objectives import Batch, network
from dsgd.optimizers import Sgd
from dsgd.state import When
from dsgd.trees import Params
from tests.gradients.estimates import estimated


def libraries(name: str, module: torch.nn.Module) -> Any:
    import pytorch_optimizer as po

    sgd: dict[str, Any] = {"base_optimizer": torch.optim.SGD, "lr": 0.1, "momentum": 0.9}
    if name == "sam":
        return po.SAM(module.parameters(), rho=0.05, **sgd)
    if name == "look_sam":
        return po.LookSAM(module.parameters(), rho=0.1, k=3, alpha=0.7, **sgd)
    base, constant = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9), SimpleNamespace(step=lambda: 0.05)
    return po.GSAM(module.parameters(), base, module, constant, alpha=0.4)


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        ("sam", Sam(0.05)),
        ("gsam", Gsam(0.05, 0.05, 0.4)),
        ("look_sam", LookSam(0.1, k=3, alpha=0.7, projection="tensor")),
    ],
)
def test_a_librarys_twenty_steps_are_ours(name: str, gradient: Gradient) -> None:
    """Those of pytorch-optimizer, which takes lengths in float32; its LookSAM adds 1e-8 to one of 0.001 or so."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    x, y = torch.randn(20, 8, 6, dtype=torch.float64), torch.randint(0, 3, (20, 8))
    net = network(deepcopy(module), "cross_entropy")
    p = Params(torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])[None], net.layout)
    optimizer, memory, moments = libraries(name, module), gradient.init(p), Sgd(0.9).init(p)
    for step in range(20):

        def closure(step: int = step) -> torch.Tensor:
            loss = cross_entropy(module(x[step]), y[step])
            loss.backward()
            return loss

        optimizer.zero_grad()
        if name == "gsam":
            optimizer.set_closure(cross_entropy, x[step], y[step])
            optimizer.step()
        else:
            closure()
            optimizer.step(closure)
        found = estimated(gradient, Batch(net, x[step][None], y[step][None]), p, memory, When(step, 0.1))
        memory = found.memory
        update, moments = Sgd(0.9).update(found.grads, moments, p, 0.1)
        p = p + update
    theirs = torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])
    near = 2e-6 if name == "look_sam" else 1e-7
    torch.testing.assert_close(p.matrix[0], theirs, rtol=near, atol=near)
