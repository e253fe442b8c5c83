"""Every way to compute a stack's losses and gradients gives what vmap gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dsgd.kernels import KERNELS, way_of
from dsgd.kernels.captured import KEPT, Captured, Compute, launch_bound
from dsgd.kernels.stacked import Stacked, chain_of
from dsgd.models import (
    MODELS,
    Cnn,
    Cosine,
    Linear,
    Mlp,
    Model,
    Quadratic,
    QuadraticRegression,
    ResNet8,
    SimBn,
    TwoLayer,
)
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
    "sim_ln": (TwoLayer(9, norm="sim_ln"), "vmapped"),
    "sim_bn": (SimBn(9), "vmapped"),
    "cnn": (Cnn((4,)), "in_turn"),
    "resnet8": (ResNet8(), "in_turn"),
    "cosine": (Cosine(Mlp((7,))), "vmapped"),
    "quadratic": (Quadratic(6, (0.5, 1.0)), "vmapped"),
    "quadratic regression": (QuadraticRegression(3, 6), "vmapped"),
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
    others = {MODELS[name] for name in ("resnet18", "neural_lm", "transformer")}  # in tests/models
    assert {type(model) for model, _ in CHOSEN.values()} | others == set(MODELS.values())


def test_on_a_gpu_chains_are_captured_and_what_vmap_runs_is_not() -> None:
    """By the same rule for every device that is not the CPU, as is the one on which tensors have no numbers."""
    assert way_of(Mlp((7,)).build(SHAPE, CLASSES).to("meta"), "cross_entropy") == "captured"
    for model in (Cnn((4,)), TwoLayer(9, train_head=False)):
        assert way_of(model.build(SHAPE, CLASSES).to("meta"), "cross_entropy") == "vmapped"


def test_squared_errors_are_taken_by_the_same_kernels() -> None:
    batch, p = made(Mlp((7, 5)))
    assert way_of(batch.network.module, "squared_error") == "stacked"
    squared = replace(batch, network=replace(batch.network, criterion="squared_error"))
    for fast, expected in zip(squared.loss_and_grad(p), taken(squared, "vmapped").loss_and_grad(p), strict=True):
        one, other = (each.matrix if isinstance(each, Params) else each for each in (fast, expected))
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


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


@pytest.mark.parametrize("way", sorted(KERNELS.keys() - {"captured", "two_layer", "sim_bn"}))
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


Recordings = list[Compute]


def again(recordings: Recordings) -> Callable[[Compute], Compute]:
    """Records without a GPU: the computation is run anew into the tensors of its first run."""

    def record(compute: Compute) -> Compute:
        recordings.append(compute)
        first = compute()

        def replay() -> tuple[torch.Tensor, torch.Tensor]:
            for place, tensor in zip(first, compute(), strict=True):
                place.copy_(tensor)
            return first

        return replay

    return record


def captured(batch: Batch) -> tuple[Captured, Recordings]:
    recordings: Recordings = []
    return Captured(KERNELS[batch.network.way](batch.network), again(recordings)), recordings


Call = tuple[Params, torch.Tensor, torch.Tensor, bool, torch.Tensor | None]


def call(model: Model, *, shared: bool = False, weighted: bool = False, rows: int = ROWS) -> tuple[Batch, Call]:
    """Other numbers at each call."""
    batch, p = made(model, shared=shared)
    x, y = (batch.x, batch.y) if shared else (batch.x[:rows], batch.y[:rows])
    weights = torch.randn(rows, B, dtype=torch.float64) if weighted else None
    return batch, (p.like(p.matrix[:rows]), x, y, shared, weights)


@pytest.mark.parametrize("model", [Mlp((7, 5), "gelu"), Cnn((4,))], ids=["mlp", "cnn"])
def test_what_is_captured_gives_the_same_numbers_over_many_steps_of_many_shapes(model: Model) -> None:
    """To the last bit; each shape is recorded once."""
    batch, _ = call(model)
    kernels, recordings = captured(batch)
    shapes = [
        {"shared": shared, "weighted": weighted, "rows": rows}
        for shared in (False, True)
        for weighted in (False, True)
        for rows in (2, ROWS)
    ]
    for _ in range(3):
        for shape in shapes:
            given = call(model, **shape)[1]
            for found, expected in zip(kernels.loss_and_grad(*given), kernels.inner.loss_and_grad(*given), strict=True):
                assert torch.equal(found, expected)
            assert torch.equal(kernels.logits(*given[:2], given[3]), kernels.inner.logits(*given[:2], given[3]))
    assert len(recordings) == len(shapes)


def test_what_was_captured_is_left_alone_by_the_next_call() -> None:
    """A gradient may be held, and changed by its owner, while the next is computed; so may the inputs."""
    batch, first = call(Mlp((7,)))
    kernels, _ = captured(batch)
    second = call(Mlp((7,)))[1]
    found = kernels.loss_and_grad(*first)
    kept = [tensor.clone() for tensor in found]
    given = first[0].matrix.clone()
    kernels.loss_and_grad(*second)
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))
    assert torch.equal(first[0].matrix, given)
    found[1].zero_()
    assert torch.equal(kernels.loss_and_grad(*first)[1], kept[1])


def test_inputs_that_share_memory_among_rows_are_captured_too() -> None:
    batch, (p, x, y, _, _) = call(Mlp((7,)))
    kernels, recordings = captured(batch)
    same = p.like(p.matrix[:1].expand(ROWS, -1)), x[:1].expand_as(x), y[:1].expand_as(y), False, None
    for _ in range(2):
        torch.testing.assert_close(kernels.loss_and_grad(*same), kernels.inner.loss_and_grad(*same))
    assert len(recordings) == 1


def test_shapes_beyond_those_kept_are_computed_uncaptured() -> None:
    batch, _ = call(Mlp((7,)))
    kernels, recordings = captured(batch)
    for _ in range(2):
        for examples in range(1, KEPT + 3):
            p, x, y = call(Mlp((7,)), shared=True)[1][:3]
            given = p, x.repeat(4, 1, 1, 1)[:examples], y.repeat(4)[:examples], True, None
            assert torch.equal(kernels.loss_and_grad(*given)[1], kernels.inner.loss_and_grad(*given)[1])
    assert len(recordings) == KEPT


def test_what_is_large_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """For there the launches hide behind the arithmetic."""
    assert launch_bound(rows=16, d=159_010, examples=32)
    assert not launch_bound(rows=16, d=159_010, examples=1024)
    assert not launch_bound(rows=64, d=159_010, examples=1)
    monkeypatch.setattr("dsgd.kernels.captured.MOST_NUMBERS", 10)
    batch, given = call(Mlp((7,)))
    kernels, recordings = captured(batch)
    assert torch.equal(kernels.loss_and_grad(*given)[1], kernels.inner.loss_and_grad(*given)[1])
    assert not recordings
