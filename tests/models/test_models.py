from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from dsgd.models import (
    ACTIVATIONS,
    MODELS,
    Cnn,
    Cosine,
    Linear,
    Mlp,
    Model,
    Quadratic,
    QuadraticRegression,
    ResNet8,
    ResNet18,
    SimBn,
    TwoLayer,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

DIGITS, FASHION, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)

CASES: list[Model] = [
    Linear(),
    Mlp(),
    Mlp(widths=(), activation="gelu"),
    Mlp(widths=(5,), activation="softplus"),
    Mlp(widths=(5,), activation="relu", norm="layer", init="he"),
    TwoLayer(),
    TwoLayer(width=7, activation="tanh", bias=False, train_head=False),
    TwoLayer(width=7, head_bias=False, norm="sim_ln"),
    SimBn(width=7),
    Cnn(),
    Cnn(channels=(4,), activation="relu"),
    ResNet8(),
    ResNet8(activation="gelu", groups=4),
    ResNet18(),
    Quadratic(dimension=7, curvature=(1.0, -2.0, 0.1)),
    QuadraticRegression(outputs=3, parameters=6),
    Mlp(widths=(5,), init="lecun"),
    Cosine(),
    Cosine(ResNet8(), scale=4.0),
]


def parameters(model: nn.Module) -> int:
    return sum(leaf.numel() for leaf in model.parameters())


def loss(model: nn.Module, p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = functional_call(model, p, (x,))
    return out.mean() if out.ndim == 1 else cross_entropy(out, y)


@pytest.mark.parametrize("spec", CASES, ids=repr)
@pytest.mark.parametrize("shape", [DIGITS, FASHION, CIFAR])
def test_output_shape(spec: Model, shape: tuple[int, ...]) -> None:
    model = spec.build(shape, 10)
    out = model(torch.randn(2, *shape))
    assert out.shape == ((2,) if isinstance(spec, Quadratic | QuadraticRegression) else (2, 10))
    assert {leaf.dtype for leaf in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("spec", "shape", "expected"),
    [
        (Linear(), DIGITS, 650),
        (Mlp(widths=(32,)), DIGITS, 2410),
        (Mlp(), DIGITS, 6570),
        (Mlp(widths=()), DIGITS, 650),
        (TwoLayer(), DIGITS, 7510),
        (TwoLayer(bias=False), DIGITS, 7400),
        (TwoLayer(bias=False, train_head=False), DIGITS, 6400),
        (TwoLayer(head_bias=False), DIGITS, 7500),
        (TwoLayer(head_bias=False, norm="sim_ln"), DIGITS, 7500),
        (SimBn(), DIGITS, 40 * (64 + 1 + 1 + 10)),
        (Cnn(), DIGITS, 6090),
        (Cnn(), FASHION, 20490),
        (ResNet8(), CIFAR, 78_042),
        (ResNet18(), CIFAR, 11_173_962),
        (Quadratic(), (0,), 1000),
        (Cosine(), DIGITS, 6560),
    ],
    ids=repr,
)
def test_parameter_count(spec: Model, shape: tuple[int, ...], expected: int) -> None:
    assert parameters(spec.build(shape, 10)) == expected


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_the_start_is_the_callers_seed(spec: Model) -> None:
    starts = []
    for _ in range(2):
        torch.manual_seed(4)
        starts.append(spec.build(DIGITS, 10).state_dict())
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_vmapped_gradients_are_those_of_each_replica(spec: Model) -> None:
    torch.manual_seed(0)
    models = [spec.build(DIGITS, 3).double() for _ in range(2)]
    model = models[0]
    stacked = {
        name: torch.stack([dict(m.named_parameters())[name].detach() + 0.1 for m in models])
        for name, _ in model.named_parameters()
    }
    x, y = torch.randn(2, 3, *DIGITS, dtype=torch.float64), torch.randint(3, (2, 3))
    together = vmap(grad(lambda p, x, y: loss(model, p, x, y)))(stacked, x, y)
    for j in range(2):
        own = {name: leaf[j].clone().requires_grad_() for name, leaf in stacked.items()}
        alone = torch.autograd.grad(loss(model, own, x[j], y[j]), list(own.values()))
        for name, expected in zip(own, alone, strict=True):
            torch.testing.assert_close(together[name][j], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_float64_parameters_need_no_other_module(spec: Model) -> None:
    model = spec.build(DIGITS, 3)
    p = {name: leaf.detach().double() for name, leaf in model.named_parameters()}
    assert functional_call(model, p, (torch.randn(2, *DIGITS, dtype=torch.float64),)).dtype == torch.float64


@pytest.mark.parametrize("spec", CASES, ids=repr)
def test_no_example_sees_another(spec: Model) -> None:
    model, x = spec.build(DIGITS, 3).double(), torch.randn(4, *DIGITS, dtype=torch.float64)
    torch.testing.assert_close(model(x)[1:3], model(x[1:3]))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_smooth_activations_have_no_jump_in_the_slope(name: str) -> None:
    points = torch.linspace(-45, 45, 180_001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(ACTIVATIONS[name]()(points).sum(), points)
    assert (float(slopes.diff().abs().max()) < 1e-3) == ACTIVATIONS[name].smooth


def test_softplus_has_no_kink_in_float64() -> None:
    points = torch.linspace(19.99, 20.01, 2001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(ACTIVATIONS["softplus"]()(points).sum(), points)
    assert float(slopes.diff().abs().max()) < 1e-13


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_models_are_as_smooth_as_their_activation(name: str) -> None:
    specs: list[Model] = [Mlp(activation=name), TwoLayer(activation=name), Cnn(activation=name)]
    specs += [ResNet8(activation=name), ResNet18(activation=name)]
    assert {spec.smooth for spec in specs} == {ACTIVATIONS[name].smooth}


def test_models_without_activation_are_smooth() -> None:
    assert all(spec.smooth for spec in (Linear(), Quadratic(), Mlp(widths=(), activation="relu")))


def test_quadratic_is_its_formula() -> None:
    model = Quadratic(dimension=5, curvature=(1.0, -2.0, 0.1)).build((0,), 1)
    assert model(torch.zeros(3, 0)).tolist() == [0, 0, 0]
    w = torch.arange(5, dtype=torch.float64)
    out = functional_call(model, {"w": w}, (torch.zeros(2, 0, dtype=torch.float64),))
    assert out.tolist() == [0.5 * (-2 * 1 + 0.1 * 4 + 9 - 2 * 16)] * 2


def test_quadratic_regression_is_its_formula() -> None:
    spec = QuadraticRegression(outputs=3, parameters=5, kernel=2.5, residual=4.0, bend=0.6, landscape=7)
    model = spec.build((0,), 1)
    z0, g, q = (buffer for _, buffer in model.named_buffers())
    assert model(torch.zeros(1, 0)).item() == pytest.approx(8)
    assert float(torch.linalg.eigvalsh(g @ g.T)[-1]) == pytest.approx(2.5)
    torch.testing.assert_close(q, q.mT)
    t = torch.randn(5, dtype=torch.float64)
    z = z0 + g @ t + torch.einsum("kij,i,j->k", q, t, t) / 2
    found = functional_call(model, {"t": t}, (torch.zeros(2, 0),))
    assert found.tolist() == pytest.approx([float(z @ z) / 2] * 2, rel=1e-12)
    again, other = (dict(replace(spec, landscape=k).build((0,), 1).named_buffers())["q"] for k in (7, 8))
    assert torch.equal(again, q)
    assert not torch.equal(other, q)
    wide = dict(QuadraticRegression(parameters=200, outputs=4, kernel=3.0).build((0,), 1).named_buffers())["q"]
    assert float(wide.diagonal(dim1=1, dim2=2).std()) == pytest.approx(0.3 * 3 / (200**0.5 * 3), rel=0.1)


def test_lecun_weights_have_the_variance_of_their_fan_in() -> None:
    model = Mlp((400, 300), init="lecun").build(DIGITS, 10)
    for name, leaf in model.named_parameters():
        expected = leaf.shape[1] ** -0.5 if name.endswith("weight") else 0.0
        assert float(leaf.detach().std()) == pytest.approx(expected, rel=0.05), name
        assert float(leaf.detach().abs().max()) > 2 * expected or not expected


def test_quadratic_takes_whole_numbers() -> None:
    assert Quadratic(dimension=2, curvature=1).build((0,), 1)(torch.zeros(1, 0)).dtype == torch.float32


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_he_weights_have_twice_the_variance_of_one_over_fan_in(norm: str) -> None:
    torch.manual_seed(0)
    built = Mlp((128, 64), "relu", norm, init="he").build(DIGITS, 10)
    linear = [layer for layer in built.modules() if isinstance(layer, torch.nn.Linear)]
    assert [layer.in_features for layer in linear] == [64, 128, 64]
    for layer in linear:
        weight = layer.weight.detach()
        assert float(weight.var()) * layer.in_features / 2 == pytest.approx(1, abs=0.2)  # 640 numbers at least
        assert weight.abs().max() > 2.5 * weight.std()  # normal, not uniform
        assert layer.bias.count_nonzero() == 0
    norms = [layer.weight for layer in built.modules() if isinstance(layer, torch.nn.LayerNorm)]
    assert all((weight == 1).all() for weight in norms)


def test_a_fixed_head_is_a_buffer() -> None:
    model = TwoLayer(train_head=False).build(DIGITS, 10)
    assert [tuple(leaf.shape) for leaf in model.parameters()] == [(100, 64), (100,)]
    assert [tuple(leaf.shape) for leaf in model.buffers()] == [(10, 100), (10,)]


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_he_s_start_keeps_the_size_of_activations_and_pytorch_s_own_lets_it_shrink(norm: str) -> None:
    """A layer and its ReLU pass on all of the input's mean square, or half of a uniform weight's third."""
    x = torch.randn(500, 3, 32, 32)
    for init, ratio in (("he", 1.0), ("uniform", 1 / 6)):
        model = Mlp((3072,), "relu", norm, init).build(CIFAR, 10)
        (first, last) = (layer for layer in model.modules() if isinstance(layer, torch.nn.Linear))
        found = torch.relu(first(x.flatten(1))).square().mean() / x.square().mean()
        assert float(found.detach()) == pytest.approx(ratio, rel=0.03)
        assert (float(last.bias.detach().abs().max()) == 0) == (init == "he")


def test_blocks_halve_the_image_and_double_the_channels() -> None:
    model = ResNet18().build(CIFAR, 10)
    hidden = torch.randn(1, *CIFAR)
    sizes = []
    for name, layer in model.named_children():
        hidden = layer(hidden)
        if name.startswith("layer"):
            sizes.append(tuple(hidden.shape[1:]))
    assert sizes[0] == (64, 32, 32)
    assert all(after == (2 * c, h // 2, w // 2) for (c, h, w), after in pairwise(sizes))


def test_impossible_knobs() -> None:
    with pytest.raises(ValueError, match="activation='sine' is unknown: use one of tanh, gelu, softplus, relu"):
        Mlp(activation="sine")
    with pytest.raises(ValueError, match=r"kernel=0\.0 is not possible: give a positive number"):
        QuadraticRegression(kernel=0.0)
    with pytest.raises(ValueError, match="bend=nan is not possible: give a finite number"):
        QuadraticRegression(bend=float("nan"))
    with pytest.raises(ValueError, match="landscape=-1 is not possible"):
        QuadraticRegression(landscape=-1)
    with pytest.raises(ValueError, match=r"widths=\(8, 0\) is not possible: every number must be at least 1"):
        Mlp(widths=(8, 0))
    with pytest.raises(ValueError, match="init is xavier; allowed are uniform, he, lecun"):
        Mlp(init="xavier")
    with pytest.raises(ValueError, match="groups=3 is not possible: give a divisor of 16"):
        ResNet8(groups=3)
    with pytest.raises(ValueError, match="groups=0 is not possible: give a divisor of 64"):
        ResNet18(groups=0)
    with pytest.raises(ValueError, match="curvature=nan is not possible"):
        Quadratic(curvature=float("nan"))
    with pytest.raises(ValueError, match=r"curvature=\(\) is not possible"):
        Quadratic(curvature=())


@pytest.mark.parametrize("spec", [Cnn(), ResNet8(), ResNet18()], ids=repr)
def test_images_are_asked_for(spec: Model) -> None:
    with pytest.raises(ValueError, match=r"model needs images .* but the inputs have shape \(20,\): use the linear"):
        spec.build((20,), 3)


def test_images_too_small_to_halve() -> None:
    with pytest.raises(ValueError, match="too often for 8 x 8 pixels: give at most 3 channels"):
        Cnn(channels=(2, 2, 2, 2)).build(DIGITS, 10)
    assert Cnn(channels=(2, 2, 2)).build(DIGITS, 10)(torch.randn(1, *DIGITS)).shape == (1, 10)


def test_the_table_of_models_is_tested() -> None:
    of_tokens = ["neural_lm", "transformer"]  # in test_language_models
    assert list(MODELS) == [
        "linear",
        "mlp",
        "two_layer",
        "sim_bn",
        "cnn",
        "resnet8",
        "resnet18",
        "quadratic",
        "quadratic_regression",
        "cosine",
        *of_tokens,
    ]
    assert {type(spec) for spec in CASES} == set(MODELS.values()) - {MODELS[name] for name in of_tokens}
