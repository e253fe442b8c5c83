"""Every way to compute a stack's losses and gradients gives what vmap gives."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dsgd.kernels import KERNELS, way_of
from dsgd.kernels.stacked import Stacked, chain_of
from dsgd.models import MODELS, Cnn, Linear, Mlp, Model, Quadratic, ResNet8, TwoLayer
from dsgd.objectives import Batch, network
from dsgd.threads import torch_threads
from dsgd.trees import Params

CHOSEN: dict[str, tuple[Model, str]] = {
    "linear": (Linear(), "stacked"),
    "mlp": (Mlp((7, 5), "gelu"), "stacked"),
    "softplus": (Mlp((7,), "softplus"), "stacked"),
    "relu": (Mlp((7,), "relu"), "stacked"),
    "two_layer": (TwoLayer(9, bias=False), "stacked"),
    "fixed head": (TwoLayer(9, train_head=False), "vmapped"),
    "cnn": (Cnn((4,)), "in_turn"),
    "resnet8": (ResNet8(), "in_turn"),
    "quadratic": (Quadratic(6, (0.5, 1.0)), "vmapped"),
}
ROWS, B, SHAPE, CLASSES = 5, 6, (1, 8, 8), 3


def made(model: Model, *, shared: bool = False) -> tuple[Batch, Params]:
    module = model.build(SHAPE, CLASSES).double()
    net = network(module, getattr(model, "criterion", "cross_entropy"))
    size = (B,) if shared else (ROWS, B)
    batch = Batch(net, torch.randn(*size, *SHAPE, dtype=torch.float64), torch.randint(0, CLASSES, size), shared)
    start = torch.cat([leaf.detach().flatten() for leaf in module.parameters()])
    return batch, Params(start + 0.1 * torch.randn(ROWS, net.layout.d, dtype=torch.float64), net.layout)


def taken(batch: Batch, way: str) -> Batch:
    return replace(batch, network=replace(batch.network, way=way))


@pytest.mark.parametrize("name", CHOSEN)
def test_the_rule_takes_the_way_meant_for_the_model(name: str) -> None:
    model, way = CHOSEN[name]
    assert way_of(model.build(SHAPE, CLASSES), getattr(model, "criterion", "cross_entropy")) == way
    assert {type(model) for model, _ in CHOSEN.values()} | {MODELS["resnet18"]} == set(MODELS.values())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", [name for name, (_, way) in CHOSEN.items() if way != "vmapped"])
def test_each_way_gives_what_vmap_gives(name: str, shared: bool, weighted: bool, threads: int) -> None:
    model, way = CHOSEN[name]
    batch, p = made(model, shared=shared)
    weights = torch.randn(ROWS, B, dtype=torch.float64) if weighted else None
    before = p.matrix.clone()
    expected, fast = taken(batch, "vmapped"), taken(batch, way)
    with torch_threads(threads):
        loss, grads = fast.loss_and_grad(p, weights)
        logits = fast.logits(p)
    oracle = expected.loss_and_grad(p, weights)
    torch.testing.assert_close(loss, oracle[0], rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(grads.matrix, oracle[1].matrix, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(logits, expected.logits(p), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(fast.losses(p), expected.losses(p), rtol=1e-10, atol=1e-13)
    assert torch.equal(p.matrix, before)


@pytest.mark.parametrize("way", KERNELS)
def test_a_rows_numbers_do_not_depend_on_the_other_rows(way: str) -> None:
    """To the last bit, so that replicas can be held in any blocks."""
    batch, p = made(Cnn((4,)) if way == "in_turn" else Mlp((7,)))
    whole = taken(batch, way).loss_and_grad(p)[1].matrix
    for start, stop in ((0, 2), (2, 5)):
        part = replace(taken(batch, way), x=batch.x[start:stop], y=batch.y[start:stop])
        assert torch.equal(part.loss_and_grad(p.like(p.matrix[start:stop]))[1].matrix, whole[start:stop])


def test_the_gradients_lie_in_one_new_matrix() -> None:
    """Nothing of the parameters' or of an earlier gradient's memory is written."""
    batch, p = made(Mlp((7,)))
    first = batch.loss_and_grad(p)[1].matrix
    kept = first.clone()
    batch.loss_and_grad(p.like(p.matrix + 1))
    assert torch.equal(first, kept)
    assert first.is_contiguous()


def test_vmap_takes_many_rows_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, p = made(Mlp((7,)))
    whole = taken(batch, "vmapped").loss_and_grad(p)[1].matrix
    monkeypatch.setattr("dsgd.kernels.vmapped.ROW_BLOCK", 10)
    torch.testing.assert_close(taken(batch, "vmapped").loss_and_grad(p)[1].matrix, whole, rtol=1e-12, atol=1e-14)


def _tied() -> torch.nn.Sequential:
    layer = torch.nn.Linear(4, 4)
    return torch.nn.Sequential(layer, torch.nn.Tanh(), layer)


def _frozen() -> torch.nn.Sequential:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    module[0].weight.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    "module",
    [_tied(), _frozen(), torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(4, 3)), torch.nn.Linear(4, 3)],
    ids=["tied", "frozen", "flatten", "no chain"],
)
def test_what_these_kernels_would_get_wrong_is_left_to_vmap(module: torch.nn.Module) -> None:
    assert way_of(module, "cross_entropy") == "vmapped"


def test_an_activation_used_twice_is_run_twice() -> None:
    act = torch.nn.Tanh()
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), act, torch.nn.Linear(5, 5), act, torch.nn.Linear(5, 3)).double()
    net = network(module, "cross_entropy")
    assert net.way == "stacked"
    batch = Batch(net, torch.randn(2, 6, 4, dtype=torch.float64), torch.randint(0, 3, (2, 6)))
    start = torch.cat([leaf.detach().flatten() for leaf in module.parameters()])
    p = Params(start + 0.1 * torch.randn(2, net.layout.d, dtype=torch.float64), net.layout)
    for found, oracle in zip(batch.loss_and_grad(p), taken(batch, "vmapped").loss_and_grad(p), strict=True):
        torch.testing.assert_close(getattr(found, "matrix", found), getattr(oracle, "matrix", oracle))


def test_rows_are_taken_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, p = made(Mlp((7,)))
    whole = batch.loss_and_grad(p)[1].matrix
    monkeypatch.setattr("dsgd.kernels.stacked.EXAMPLES_AT_ONCE", 2 * B)
    assert torch.equal(batch.loss_and_grad(p)[1].matrix, whole)


def test_an_unknown_layer_is_no_chain() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))
    assert chain_of(module) is None
    with pytest.raises(ValueError, match="no chain of linear layers"):
        Stacked(network(module, "cross_entropy"))
