"""The methods around an ordinary optimizer take the ensemble's own steps, and leave a module as a plain step would."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import dsgd
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.csam import Csam
from dsgd.gradients.gsam import Gsam
from dsgd.gradients.imb_sam import ImbSam
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.tram import Tram
from dsgd.gradients.vasso import Vasso
from dsgd.objectives import Batch, network
from dsgd.optimizers import Sgd
from dsgd.perturbations import Noise
from dsgd.state import When
from dsgd.trees import Params

Batches = list[tuple[torch.Tensor, torch.Tensor]]
STEPS = 6
COUNTS = torch.tensor([5, 50, 500])


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def batches() -> Batches:
    torch.manual_seed(2)
    return [(torch.randn(8, 6, dtype=torch.float64), torch.randint(0, 3, (8,))) for _ in range(2 * STEPS)]


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def of_one_replica(gradient: Gradient, batches: Batches) -> torch.Tensor:
    """What an ensemble of one replica ends at."""
    module, optimizer = model(), Sgd(momentum=0.9, weight_decay=0.01)
    net = network(module, "cross_entropy")
    p = Params(flat(module)[None], net.layout)
    memory, moments = gradient.init(p), optimizer.init(p)
    for step, (x, y) in enumerate(batches):
        objective = Batch(net, x[None], y[None], counts=lambda of: COUNTS[None])
        noise = Noise(step, ((0, 0),))
        found = gradient.estimate(objective, p, noise, memory, When(step, 0.1, 0.1, 0.1))
        update, moments = optimizer.update(found.grads, moments, p, 0.1)
        p, memory = p + update, found.memory
    return p.matrix[0]


@pytest.mark.parametrize("name", [name for name in GRADIENTS if name != "weight_diversity"])
def test_a_wrapped_optimizer_takes_the_steps_of_one_replica(batches: Batches, name: str) -> None:
    gradient, module = GRADIENTS[name](), model()
    optimizer = dsgd.wrap(gradient, module, sgd(module), class_counts=COUNTS, lr_max=0.1, lr_last=0.1)
    for x, y in batches:
        loss = optimizer.step(x, y)
        assert loss.shape == ()
    torch.testing.assert_close(flat(module), of_one_replica(gradient, batches), rtol=1e-10, atol=1e-12)


def closure_of(module: nn.Module, optimizer: Any, x: torch.Tensor, y: torch.Tensor) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(module(x), y)
        loss.backward()
        return loss

    return closure


@pytest.mark.parametrize("name", ["plain", "sam", "ssam", "asam", "gsam", "look_sam", "vasso", "average_direction"])
def test_a_closure_does_as_well(batches: Batches, name: str) -> None:
    gradient, module = GRADIENTS[name](), model()
    optimizer = dsgd.wrap(gradient, module, sgd(module), lr_max=0.1, lr_last=0.1)
    losses = [optimizer.step(closure_of(module, optimizer, x, y)) for x, y in batches]
    torch.testing.assert_close(flat(module), of_one_replica(gradient, batches), rtol=1e-10, atol=1e-12)
    if "direction" in name:
        return
    assert losses[0] == pytest.approx(float(cross_entropy(model()(batches[0][0]), batches[0][1]).detach()))


def test_a_closure_need_not_clear_gradients_but_must_leave_some(batches: Batches) -> None:
    found = []
    for clears in (True, False):
        module = model()
        optimizer = dsgd.wrap(Sam(), module, sgd(module))

        def closure(x: torch.Tensor, y: torch.Tensor, clears: bool = clears, module: Any = module) -> torch.Tensor:
            if clears:
                module.zero_grad()
            loss = cross_entropy(module(x), y)
            loss.backward()
            return loss

        for batch in batches:
            optimizer.step(partial(closure, *batch))
        found.append(flat(module))
    assert torch.equal(*found)
    with pytest.raises(ValueError, match=r"the closure left no gradients; let it call backward\(\)"):
        optimizer.step(lambda: cross_entropy(module(batches[0][0]), batches[0][1]))


@pytest.mark.parametrize("gradient", [MSam(), ImbSam(), Csam(), Tram()], ids=lambda gradient: type(gradient).__name__)
def test_what_looks_at_examples_is_refused_a_closure(batches: Batches, gradient: Gradient) -> None:
    module = model()
    before = flat(module)
    optimizer = dsgd.wrap(gradient, module, sgd(module), class_counts=COUNTS)
    with pytest.raises(ValueError, match=r"call step\(x, y\)"):
        optimizer.step(closure_of(module, optimizer, *batches[0]))
    assert torch.equal(flat(module), before)


@pytest.mark.parametrize("gradient", [Vasso(), LookSam(k=4), Tram(), Sam()], ids=lambda g: type(g).__name__)
def test_a_saved_state_goes_on_to_the_same_bits(batches: Batches, gradient: Gradient) -> None:
    """Momentum, moving averages and the count of steps."""
    module, other = model(), model()
    optimizer, again = (dsgd.wrap(gradient, m, sgd(m)) for m in (module, other))
    for x, y in batches[:STEPS]:
        optimizer.step(x, y)
    other.load_state_dict(module.state_dict())
    again.load_state_dict(deepcopy(optimizer.state_dict()))
    for x, y in batches[STEPS:]:
        optimizer.step(x, y)
        again.step(x, y)
    assert torch.equal(flat(module), flat(other))
    assert not torch.equal(flat(module), flat(model()))


def test_a_state_of_another_method_is_refused() -> None:
    module = model()
    sam, vasso = (dsgd.wrap(gradient, module, sgd(module)) for gradient in (Sam(), Vasso()))
    with pytest.raises(ValueError, match="of another gradient method"):
        vasso.load_state_dict(sam.state_dict())


@pytest.mark.parametrize("name", [name for name in GRADIENTS if name != "weight_diversity"])
def test_running_statistics_move_once_as_in_a_plain_step(name: str) -> None:
    def trained(gradient: Gradient) -> nn.BatchNorm1d:
        torch.manual_seed(3)
        norm = nn.BatchNorm1d(5)
        module = nn.Sequential(nn.Linear(6, 5), norm, nn.ReLU(), nn.Linear(5, 3)).double()
        optimizer = dsgd.wrap(gradient, module, sgd(module), class_counts=COUNTS, lr_max=0.1, lr_last=0.1)
        optimizer.step(torch.randn(16, 6, dtype=torch.float64), torch.randint(0, 3, (16,)))
        return norm

    method = MSam(m=6) if name == "m_sam" else GRADIENTS[name]()
    found, expected = trained(method), trained(Plain())
    assert torch.equal(found.running_mean, expected.running_mean)  # type: ignore[arg-type]
    assert torch.equal(found.running_var, expected.running_var)  # type: ignore[arg-type]
    assert int(found.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_a_closures_statistics_move_once_too() -> None:
    """Also where the method never looks at the parameters themselves."""
    for gradient in (Sam(), GRADIENTS["average_direction"](samples=3)):  # type: ignore[call-arg]
        torch.manual_seed(3)
        norm = nn.BatchNorm1d(5)
        module = nn.Sequential(nn.Linear(6, 5), norm, nn.Linear(5, 3)).double()
        x, y = torch.randn(16, 6, dtype=torch.float64), torch.randint(0, 3, (16,))
        mean = module[0](x).mean(dim=0).detach()
        optimizer = dsgd.wrap(gradient, module, sgd(module))
        optimizer.step(closure_of(module, optimizer, x, y))
        torch.testing.assert_close(norm.running_mean, 0.1 * mean)
        assert int(norm.num_batches_tracked) == 1  # type: ignore[arg-type]


def test_parameters_that_the_loss_does_not_depend_on_are_passed_over(batches: Batches) -> None:
    """Not even weight decay moves them."""
    module = nn.ModuleDict({"used": model(), "idle": nn.Linear(2, 2).double()})
    idle = flat(module["idle"])

    class Used(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.parts["used"](x)
            return found

    whole = Used()
    optimizer = dsgd.wrap(Sam(), whole, sgd(whole))
    optimizer.step(*batches[0])
    assert torch.equal(flat(module["idle"]), idle)
    assert not torch.equal(flat(module["used"]), flat(model()))


def test_a_scheduler_of_the_wrapper_is_the_bases(batches: Batches) -> None:
    module = model()
    base = sgd(module)
    optimizer = dsgd.wrap(Sam(), module, base)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step(*batches[0])
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.05


def test_what_cannot_be_wrapped_is_said() -> None:
    module, other = model(), model()
    with pytest.raises(ValueError, match="parameters that the module does not"):
        dsgd.wrap(Sam(), module, sgd(other))
    with pytest.raises(ValueError, match="give step a closure, or x and y"):
        dsgd.wrap(Sam(), module, sgd(module)).step()
    with pytest.raises(ValueError, match="parameters are fixed"):
        dsgd.wrap(Sam(), module, sgd(module)).add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    with pytest.raises(ValueError, match="give step a closure, or x and y"):
        dsgd.wrap(Sam(), module, sgd(module)).step(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="LBFGS asks for the loss itself"):
        dsgd.wrap(Sam(), module, torch.optim.LBFGS(module.parameters()))
    with pytest.raises(ValueError, match="give its greatest and last, lr_max and lr_last"):
        dsgd.wrap(Gsam(), module, sgd(module))
    with pytest.raises(ValueError, match="of another gradient method"):
        dsgd.wrap(Vasso(), module, sgd(module)).load_state_dict(sgd(module).state_dict())
    for counts in ([5, 50], [5, 50, -1], [[5, 50, 500]]):
        with pytest.raises(ValueError, match="class_counts has shape"):
            dsgd.wrap(ImbSam(), module, sgd(module), class_counts=counts).step(  # type: ignore[arg-type]
                torch.zeros(3, 6).double(), torch.arange(3)
            )
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())
    with pytest.raises(ValueError, match="several dtypes or devices"):
        dsgd.wrap(Sam(), mixed, sgd(mixed))
    with pytest.raises(ValueError, match="give wrap the class_counts"):
        dsgd.wrap(ImbSam(), module, sgd(module)).step(torch.zeros(2, 6).double(), torch.zeros(2, dtype=torch.long))
