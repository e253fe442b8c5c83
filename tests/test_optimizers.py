"""Each optimizer against torch's own, replica by replica; LAMB against its paper's formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from dsgd.optimizers import OPTIMIZERS, AdamW, Lamb, Optimizer, ProjectedSgd, Sgd
from dsgd.trees import Params, stack

ORACLES: list[tuple[Optimizer, Callable[..., torch.optim.Optimizer]]] = [
    (Sgd(), lambda p: torch.optim.SGD(p, lr=0.1)),
    (Sgd(momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    (
        Sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    (AdamW(weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1)),
]


def ensemble() -> Params:
    return stack({"w": torch.randn(3, 4, 2), "b": torch.randn(3, 4)}, torch.float64)


@pytest.mark.parametrize(("optimizer", "oracle"), ORACLES, ids=lambda x: repr(x) if hasattr(x, "init") else "")
def test_every_replica_moves_as_under_torchs_optimizer(optimizer: Optimizer, oracle: Callable[..., object]) -> None:
    p, grads = ensemble(), [ensemble() for _ in range(5)]
    singles = [{k: leaf[j].clone().requires_grad_() for k, leaf in p.items()} for j in range(3)]
    oracles = [oracle(list(single.values())) for single in singles]
    memory = optimizer.init(p)
    for g in grads:
        delta, memory = optimizer.update(g, memory, p, 0.1)
        p = p + delta
        for j, (single, steps) in enumerate(zip(singles, oracles, strict=True)):
            for k, leaf in single.items():
                leaf.grad = g[k][j].clone()
            steps.step()  # type: ignore[attr-defined]
    for j, single in enumerate(singles):
        for k, leaf in single.items():
            torch.testing.assert_close(p[k][j], leaf.detach(), rtol=1e-12, atol=1e-12)


def change(optimizer: Optimizer, g: Params, p: Params) -> Params:
    """The first step's change of the parameters at lr 0.01."""
    delta, _ = optimizer.update(g, optimizer.init(p), p, 0.01)
    return delta.params * delta.factor


def test_lamb_steps_each_leaf_by_lr_times_its_own_norm() -> None:
    p, g = ensemble(), ensemble()
    delta = change(Lamb(eps=0.0), g, p)
    for name in p:
        for j in range(3):
            assert float(delta[name][j].norm()) == pytest.approx(0.01 * float(p[name][j].norm()), rel=1e-9)
            torch.testing.assert_close(delta[name][j].sign(), -g[name][j].sign())


def test_lamb_takes_a_plain_step_where_a_leaf_is_zero() -> None:
    p = stack({"w": torch.zeros(1, 3)}, torch.float64)
    delta = change(Lamb(eps=0.0), p.like(torch.ones(1, 3).double()), p)
    torch.testing.assert_close(delta.matrix, torch.full((1, 3), -0.01).double())


def test_projected_sgd_scales_each_leaf_that_became_too_long() -> None:
    p = stack(
        {"w": torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.3, 0.0], [0.0, 0.4]]]), "b": torch.ones(2, 4)}, torch.float64
    )
    g = p.like(-p.matrix)
    delta, memory = ProjectedSgd(2.0, ("w",)).update(g, {}, p, 0.5)
    found = p + delta
    torch.testing.assert_close(found["w"][0], torch.tensor([[1.2, 0.0], [0.0, 1.6]]).double())
    torch.testing.assert_close(found["w"][1], 1.5 * p["w"][1])
    torch.testing.assert_close(found["b"], 1.5 * p["b"])
    both = p + ProjectedSgd(2.0).update(g, memory, p, 0.5)[0]
    torch.testing.assert_close(both["w"], found["w"])
    torch.testing.assert_close(both["b"].norm(dim=1), torch.full((2,), 2.0).double())


def test_projected_sgd_names_a_leaf_that_the_model_has_not() -> None:
    with pytest.raises(ValueError, match=r"leaves has 1\.bias, but those of the model are w, b"):
        ProjectedSgd(leaves=("w", "1.bias")).init(ensemble())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_leave_their_arguments_alone(name: str) -> None:
    optimizer = OPTIMIZERS[name]()
    p, g = ensemble(), ensemble()
    memory = optimizer.init(p)
    before = [x.clone() for x in (p.matrix, g.matrix, *memory.values())]
    optimizer.update(g, memory, p, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, (p.matrix, g.matrix, *memory.values()), strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sgd(momentum=1.0), "momentum is 1.0; it must be in"),
        (lambda: Sgd(nesterov=True), "nesterov is true and momentum 0"),
        (lambda: Sgd(weight_decay=-1), "weight_decay is -1; it must be at least 0"),
        (lambda: AdamW(beta2=float("nan")), "beta2 is nan"),
        (lambda: Lamb(eps=-1), "eps is -1"),
        (lambda: ProjectedSgd(0.0), "radius is 0.0; it must be greater than 0 and finite"),
    ],
)
def test_impossible_knobs_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
