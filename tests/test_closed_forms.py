"""Kernels written by hand for one network each give what vmap gives, and SAM in closed form what two gradients do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from dsgd.backends import train
from dsgd.data import Xor
from dsgd.gradients.sam import Sam
from dsgd.kernels import Network, way_of
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy
from dsgd.models import Mlp, Model, SimBn, TwoLayer
from dsgd.objectives import Batch, Tilted, at_worst, network
from dsgd.packs import Pack, packs, simulate_pack
from dsgd.run import Run
from dsgd.tasks import Task, module_for
from dsgd.trees import Params
from tests.rows import near
from topologies import Static, Topology

DATA = Xor(6, 24, 50, crossed=True)
MODELS: dict[str, Model] = {
    "bias": TwoLayer(11, head_bias=False),
    "no bias": TwoLayer(11, bias=False),
    "sim_ln": TwoLayer(11, head_bias=False, norm="sim_ln"),
    "sim_bn": SimBn(11),
}
ROWS, B, RHO = 4, 5, 0.3
close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


def made(model: Model, b: int = B, *, shared: bool = False) -> tuple[Batch, Params]:
    """A batch of random examples, and random parameters."""
    data = DATA.load()
    net = network(module_for(model, data).double(), data.criterion)
    size = (b,) if shared else (ROWS, b)
    batch = Batch(net, torch.randn(*size, 6, dtype=torch.float64), torch.randint(0, 2, size), shared)
    return batch, Params(torch.randn(ROWS, net.layout.d, dtype=torch.float64), net.layout)


def vmapped(batch: Batch) -> Batch:
    return replace(batch, network=replace(batch.network, way="vmapped"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_by_hand_is_what_vmap_gives(name: str, shared: bool, weighted: bool) -> None:
    batch, p = made(MODELS[name], shared=shared)
    assert batch.network.way == ("sim_bn" if name == "sim_bn" else "two_layer")
    weights = torch.randn(ROWS, B, dtype=torch.float64) if weighted else None
    before, oracle = p.matrix.clone(), vmapped(batch)
    for found, expected in zip(batch.loss_and_grad(p, weights), oracle.loss_and_grad(p, weights), strict=True):
        close(getattr(found, "matrix", found), getattr(expected, "matrix", expected))
    close(batch.logits(p), oracle.logits(p))
    close(batch.losses(p), oracle.losses(p))
    assert torch.equal(p.matrix, before)


@pytest.mark.parametrize("name", MODELS)
def test_by_hand_a_row_depends_on_no_other_row(name: str) -> None:
    batch, p = made(MODELS[name])
    whole = batch.loss_and_grad(p)[1].matrix
    part = replace(batch, x=batch.x[1:3], y=batch.y[1:3]).loss_and_grad(p.like(p.matrix[1:3]))[1].matrix
    torch.testing.assert_close(part, whole[1:3], rtol=1e-13, atol=1e-15)  # sums over another axis may be cut otherwise


@pytest.mark.parametrize("name", ["bias", "no bias", "sim_ln"])
def test_a_zero_network_has_finite_gradients(name: str) -> None:
    """At a = 0, below eps, the head takes a / eps; where the error is 0 nothing is moved."""
    batch, p = made(MODELS[name], 1)
    zero = p.like(torch.zeros_like(p.matrix))
    found = at_worst(batch, zero, RHO)
    assert found is not None
    assert found[1].matrix.eq(0).all()
    assert batch.loss_and_grad(zero)[1].matrix.eq(0).all()
    assert torch.equal(found[0], torch.ones(ROWS, dtype=torch.float64))


@pytest.mark.parametrize("name", ["bias", "no bias", "sim_ln"])
def test_sam_at_one_example_is_two_gradients(name: str) -> None:
    batch, p = made(MODELS[name], 1)
    found, slow = at_worst(batch, p, RHO), vmapped(batch)
    assert found is not None
    assert at_worst(slow, p, RHO) is None
    loss, g = slow.loss_and_grad(p)
    worst = p + g * (RHO / (g.matrix.norm(dim=1) + 1e-12))
    close(found[0], loss)
    close(found[1].matrix, slow.loss_and_grad(worst)[1].matrix)


def test_the_rule_takes_a_closed_form_for_one_example_a_row_and_no_tilt() -> None:
    batch, p = made(MODELS["bias"], 1)
    assert at_worst(batch, p, RHO) is not None
    assert at_worst(made(MODELS["bias"], 2)[0], p, RHO) is None
    assert at_worst(batch.joint(), p, RHO) is None
    assert at_worst(Tilted(batch, torch.zeros_like(p.matrix)), p, RHO) is None
    assert at_worst(*made(MODELS["sim_bn"], 1), RHO) is None


@pytest.mark.parametrize(
    ("model", "outputs", "way"),
    [
        (TwoLayer(11), 1, "stacked"),  # a head with a bias
        (TwoLayer(11, "tanh", head_bias=False), 1, "stacked"),
        (TwoLayer(11, head_bias=False), 2, "stacked"),
        (Mlp((5, 5), "relu"), 1, "stacked"),
        (TwoLayer(11, head_bias=False, train_head=False), 1, "vmapped"),
    ],
)
def test_other_networks_are_left_to_other_kernels(model: Model, outputs: int, way: str) -> None:
    assert way_of(model.build((6,), outputs), "signed_squared_error") == way
    assert way_of(TwoLayer(11, head_bias=False).build((6,), 1), "cross_entropy") == "stacked"


def run(model: Model, seed: int = 0, n: int = 1, **knobs: object) -> Run:
    data = replace(DATA, split=seed)
    given = {"steps": 100, "batch_size": 1, "gradient": Sam(RHO), "metrics": (Accuracy(),), "dtype": "float64"} | knobs
    topology = Static(Topology("ring" if n > 1 else "complete", n))
    return Run(Task(data), model, topology, learning_rate=Constant(0.02), seed=seed, **given)  # type: ignore[arg-type]


def trained(run: Run) -> torch.Tensor:
    return torch.cat([leaf.flatten(1) for leaf in train(run, device="cpu").params.values()], dim=1)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", MODELS)
def test_a_hundred_steps_by_hand_are_those_of_the_plain_path(
    name: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = trained(run(MODELS[name], n=n))
    monkeypatch.setattr("dsgd.kernels.way_of", lambda module, criterion: "vmapped")
    plain = trained(run(MODELS[name], n=n))
    assert float((fast - plain).abs().max()) < 1e-10
    assert float((fast - trained(run(MODELS[name], n=n, steps=1))).abs().max()) > 1e-3


@pytest.mark.parametrize("knobs", [{}, {"batch_size": "full"}, {"gradient_noise": 0.1}], ids=["one", "full", "noise"])
@pytest.mark.parametrize("name", ["bias", "sim_bn"])
def test_runs_on_different_draws_are_trained_together_as_if_alone(name: str, knobs: dict[str, object]) -> None:
    runs = [run(MODELS[name], seed, n=2, steps=20, **knobs) for seed in (3, 4, 5)]
    assert packs(runs) == [[0, 1, 2]]
    together = simulate_pack(Pack(runs, torch.device("cpu")), [()] * 3)
    for alone, found in zip(runs, together, strict=True):
        assert not isinstance(found, FloatingPointError)
        expected = train(alone, device="cpu")
        for leaf, other in zip(found.params.values(), expected.params.values(), strict=True):
            close(leaf, other)
        assert found.history[-1] == near(expected.history[-1])
        assert found.data_sha256 == expected.data_sha256


def test_a_network_that_normalises_by_data_has_the_tasks_inputs() -> None:
    data = DATA.load()
    module = module_for(SimBn(11), data)
    torch.testing.assert_close(module.get_buffer("inputs"), torch.from_numpy(data.train.x))
    with torch.no_grad():
        hidden = torch.relu(module.get_submodule("hidden")(torch.from_numpy(data.train.x)))
        roots = hidden.square().mean(dim=0).sqrt()
        expected = hidden / roots @ module.get_submodule("head").get_parameter("weight").T
        torch.testing.assert_close(module(torch.from_numpy(data.train.x)), expected)


def test_networks_of_other_kinds_are_theirs_alone() -> None:
    from dsgd.kernels.sim_bn import SimBnByHand
    from dsgd.kernels.two_layer import TwoLayerByHand

    batch, _ = made(MODELS["sim_bn"])
    with pytest.raises(ValueError, match="take vmapped"):
        TwoLayerByHand(batch.network)
    with pytest.raises(ValueError, match="take vmapped"):
        SimBnByHand(Network(TwoLayer(3).build((6,), 2), batch.network.layout))
