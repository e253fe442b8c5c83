"""Cosines of features and weights, by torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from dsgd.models import Cosine, Mlp, Quadratic, ResNet8
from dsgd.models.cosine import with_output

X = torch.rand(5, 1, 8, 8)


def test_logits_are_cosines_times_the_scale_whatever_the_lengths() -> None:
    module = Cosine(Mlp((16, 6), norm="batch"), scale=4.0).build((1, 8, 8), 3)
    found, weight = module(X), module.output.weight  # type: ignore[union-attr]  # a layer's
    features = module[:-1](X)  # type: ignore[index]  # it is a sequence
    expected = cosine_similarity(features[:, None], weight[None], dim=2)  # type: ignore[index]
    torch.testing.assert_close(found, 4 * expected)
    with torch.no_grad():
        weight.mul_(3.0)  # type: ignore[operator]
    torch.testing.assert_close(module(X), found)


def test_the_model_starts_as_the_one_it_is_made_of() -> None:
    torch.manual_seed(3)
    plain = dict(Mlp((6,)).build((1, 8, 8), 3).named_parameters())
    torch.manual_seed(3)
    found = dict(Cosine(Mlp((6,))).build((1, 8, 8), 3).named_parameters())
    assert set(plain) - set(found) == {"3.bias"}
    assert all(torch.equal(leaf, plain[name]) for name, leaf in found.items())


def test_what_the_last_layer_is_given_stays_as_it_is() -> None:
    for spec in (ResNet8(), Cosine(ResNet8()), Cosine(Mlp((6,)))):
        module, seen = spec.build((1, 8, 8), 3), list[torch.Tensor]()
        last = list(module.modules())[-1]
        last.register_forward_hook(lambda _, given, out, seen=seen: seen.append(given[0]))
        module(X)
        torch.testing.assert_close(with_output(module, lambda _: nn.Identity())(X), seen[0])


def test_batches_are_as_large_as_the_features_need() -> None:
    assert Cosine(Mlp(norm="batch")).least_batch_size == 2
    assert Cosine(Mlp()).least_batch_size == 1
    assert not Cosine(Mlp(activation="relu")).smooth


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="scale is 0; it must be above 0"):
        Cosine(scale=0)
    with pytest.raises(ValueError, match="the model has no linear layer"):
        Cosine(Quadratic()).build((0,), 1)
