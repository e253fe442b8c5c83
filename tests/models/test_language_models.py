"""Models of tokens: their sizes, that noise reaches the embeddings and nothing else, and gradients for many rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from dsgd.kernels import way_of
from dsgd.models import Model, NeuralLm, Transformer
from dsgd.objectives import Batch, network
from dsgd.trees import Params

CONTEXT, CLASSES = 6, 11
CASES: list[Model] = [NeuralLm(5, 7), Transformer(8, 1, 2), Transformer(8, 3, 4)]


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(CLASSES, (*shape, CONTEXT)).double()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NeuralLm(), 96 * 24 + (12 * 24 + 1) * 192 + 2 * 192 + 193 * 96),
        (Transformer(), 96 * 32 + 12 * 32 + 12 * 32 * 32 + 13 * 32 + 2 * 32 + 33 * 96),
    ],
    ids=repr,
)
def test_parameter_count(spec: Model, expected: int) -> None:
    assert sum(leaf.numel() for leaf in spec.build((12,), 96).parameters()) == expected


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_each_row_of_logits_is_of_its_window_alone(spec: Model) -> None:
    module, x = spec.build((CONTEXT,), CLASSES).double(), tokens(4)
    out = module(x)
    assert out.shape == (4, CLASSES)
    torch.testing.assert_close(module(x[1:3]), out[1:3])


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_every_character_of_the_window_and_its_place_count(spec: Model) -> None:
    module, x = spec.build((CONTEXT,), CLASSES).double(), tokens(1)
    for place in range(CONTEXT):
        other = x.clone()
        other[0, place] = (other[0, place] + 1) % CLASSES
        assert not torch.allclose(module(other), module(x))
    x[0, 0], x[0, 1] = 1, 2
    assert not torch.allclose(module(x[:, [1, 0, *range(2, CONTEXT)]]), module(x))


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_noise_is_added_to_the_embeddings(spec: Model) -> None:
    """The noise that turns one token's embedding into another's gives the other's logits; no noise changes nothing."""
    module: Any = spec.build((CONTEXT,), CLASSES).double()
    x = tokens(2, 3)
    net = network(module, "cross_entropy")
    rows = torch.cat([leaf.detach().flatten() for leaf in module.parameters()]).expand(2, -1)
    batch, p = Batch(net, x, torch.zeros(2, 3, dtype=torch.int64)), Params(rows, net.layout)
    width = module.embedding.weight.shape[1]
    assert batch.noise_shape == (CONTEXT, width)
    noise = torch.zeros(2, 3, CONTEXT, width, dtype=torch.float64)
    torch.testing.assert_close(batch.noised(noise).logits(p), batch.logits(p), rtol=1e-12, atol=1e-14)
    other = (x + 1) % CLASSES
    noise = module.embedding.weight[other.long()] - module.embedding.weight[x.long()]
    torch.testing.assert_close(batch.noised(noise.detach()).logits(p), Batch(net, other, batch.y).logits(p))
    shared = Batch(net, x[0], batch.y[0], shared=True)
    assert shared.noise_shape == batch.noise_shape
    torch.testing.assert_close(shared.noised(noise.detach()).logits(p)[0], Batch(net, other, batch.y).logits(p)[0])


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_vmapped_gradients_are_those_of_each_replica(spec: Model) -> None:
    module = spec.build((CONTEXT,), CLASSES).double()
    assert way_of(module, "cross_entropy") == "vmapped"
    stacked = {name: torch.stack([leaf.detach(), leaf.detach() + 0.1]) for name, leaf in module.named_parameters()}
    x, y = tokens(2, 3), torch.randint(CLASSES, (2, 3))

    def loss(p: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(module, p, (x,)), y)

    together = vmap(grad(loss))(stacked, x, y)
    for j in range(2):
        own = {name: leaf[j].clone().requires_grad_() for name, leaf in stacked.items()}
        alone = torch.autograd.grad(loss(own, x[j], y[j]), list(own.values()))
        for name, expected in zip(own, alone, strict=True):
            torch.testing.assert_close(together[name][j], expected, rtol=1e-10, atol=1e-10)


def test_a_transformers_last_block_skips_what_is_not_read() -> None:
    """Its logits are those of a block that computes every position."""
    module: Any = Transformer(8, 2, 2).build((CONTEXT,), CLASSES).double()
    x = tokens(3)
    hidden = module.embedding.weight[x.long()] + module.position
    for block in module.blocks:
        hidden = block(hidden, 0)
    torch.testing.assert_close(module.output(module.norm(hidden[:, -1])), module(x), rtol=1e-12, atol=1e-12)


def test_attention_is_torchs() -> None:
    module: Any = Transformer(8, 1, 2).build((CONTEXT,), CLASSES).double()
    block = module.blocks[0]
    x = torch.randn(3, CONTEXT, 8, dtype=torch.float64)
    torch_s = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        torch_s.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        torch_s.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
        torch_s.out_proj.load_state_dict(block.mixed.state_dict())
        normal = block.norm1(x)
        y = x + torch_s(normal, normal, normal)[0]
        expected = y + block.down(torch.nn.functional.gelu(block.up(block.norm2(y))))
        torch.testing.assert_close(block(x, 0), expected, rtol=1e-12, atol=1e-12)


def test_impossible_knobs_and_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="heads is 3; it must be a divisor of the width 8"):
        Transformer(8, 1, 3)
    with pytest.raises(ValueError, match=r"depth=\(0,\) is not possible: every number must be at least 1"):
        Transformer(depth=0)
    with pytest.raises(ValueError, match=r"embedding=\(0,\) is not possible"):
        NeuralLm(embedding=0)
    for spec in CASES:
        with pytest.raises(ValueError, match=r"model needs windows of tokens, .* have shape \(1, 8, 8\): use it with"):
            spec.build((1, 8, 8), 10)
