"""Batch normalisation: torch's numbers, moved once a step, and three policies of what the mean is judged by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dsgd.communicators import Local
from dsgd.gradients import GRADIENTS
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.kernels import network
from dsgd.metrics import Accuracy
from dsgd.metrics.accuracy import evaluate
from dsgd.models import Mlp, ResNet8
from dsgd.objectives import Batch
from dsgd.run import Run
from dsgd.simulation import Simulation, World
from dsgd.state import STATISTICS
from dsgd.trees import Params
from topologies import Static, Topology

Make = Callable[..., Run]
CPU = torch.device("cpu")
NORMALISED = Mlp((8, 6), activation="relu", norm="batch")


def advanced(run: Run, steps: int) -> tuple[Simulation, World]:
    simulation = Simulation(run, Local(run.n), CPU)
    world = simulation.start()
    for _ in range(steps):
        world = simulation.advance(world)
    return simulation, world


def torchs(module: nn.Module) -> nn.Sequential:
    """A module of ours with torch's layers of batch normalisation in place of ours."""
    layers: dict[str, nn.Module] = {}
    for name, layer in module.named_children():
        if name.startswith("norm"):
            layers[name] = nn.BatchNorm1d(len(layer.weight)).double()  # type: ignore[arg-type]
            layers[name].load_state_dict(layer.state_dict(), strict=False)
        else:
            layers[name] = layer
    found = nn.Sequential()
    for name, layer in layers.items():
        found.add_module(name, layer)
    return found


def statistics_of(module: nn.Module) -> torch.Tensor:
    return torch.cat([b for name, b in module.named_buffers() if "num_batches" not in name])


def test_a_replica_trains_and_is_judged_as_torchs_own_module(small: Make) -> None:
    run = small(n=1, model=NORMALISED, batch_size=8, steps=10)
    simulation, world = advanced(run, 10)
    module = torchs(Simulation(run, Local(1), CPU).network.module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(10):
        batch = simulation.feed.batch(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(batch.x[0]), batch.y[0]).backward()
        optimizer.step()
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    torch.testing.assert_close(world.ensemble.params.matrix[0], expected, rtol=1e-10, atol=1e-12)
    found = world.ensemble.buffers[STATISTICS][0]
    torch.testing.assert_close(found, statistics_of(module), rtol=1e-10, atol=1e-12)
    snapshot = simulation.snapshot(world)
    assert snapshot
    judged = snapshot.judged()
    module.eval()
    with torch.no_grad():
        outputs = module(snapshot.test.x)
    loss, accuracy = evaluate(judged.network, judged.replicas, snapshot.test)
    torch.testing.assert_close(loss[0], nn.functional.cross_entropy(outputs, snapshot.test.y), rtol=1e-10, atol=0)
    assert accuracy is not None
    assert float(accuracy[0]) == float((outputs.argmax(dim=1) == snapshot.test.y).double().mean())


@pytest.mark.parametrize("name", GRADIENTS)
def test_whatever_the_method_the_statistics_move_once_at_the_clean_point(small: Make, name: str) -> None:
    of_plain = advanced(small(model=NORMALISED, batch_size=8), 1)[1].ensemble.buffers[STATISTICS]
    found = advanced(small(model=NORMALISED, batch_size=8, gradient=GRADIENTS[name]()), 1)[1].ensemble
    assert torch.equal(found.buffers[STATISTICS], of_plain)
    assert not torch.equal(of_plain, advanced(small(model=NORMALISED), 0)[1].ensemble.buffers[STATISTICS])


@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt", "centralized"])
def test_they_are_mixed_as_the_parameters_are_or_stay_where_they_are(small: Make, algorithm: str) -> None:
    mixed, local = (
        advanced(small(model=NORMALISED, batch_size=8, algorithm=algorithm, running_statistics=policy), 1)[1]
        for policy in ("mix", "local")
    )
    w = torch.from_numpy(Topology("ring", 4).matrix().toarray())
    if algorithm == "centralized":
        w = torch.full((4, 4), 0.25, dtype=torch.float64)
    own = local.ensemble.buffers[STATISTICS]
    assert float(own.std(dim=0).max()) > 1e-3
    torch.testing.assert_close(mixed.ensemble.buffers[STATISTICS], w @ own, rtol=1e-12, atol=1e-14)
    assert torch.equal(mixed.ensemble.params.matrix, local.ensemble.params.matrix)


def test_recalibrated_the_mean_model_has_the_statistics_of_the_train_split(small: Make) -> None:
    simulation, world = advanced(small(model=NORMALISED, batch_size=8, running_statistics="recalibrate"), 5)
    snapshot = simulation.snapshot(world)
    assert snapshot
    judged = snapshot.judged()
    module = torchs(simulation.network.module)
    d = world.ensemble.params.layout.d
    with torch.no_grad():
        mean = world.ensemble.params.matrix.mean(dim=0)
        for name, leaf in world.ensemble.params.layout.leaves(mean).items():
            module.get_parameter(name).copy_(leaf)
        for layer in module:
            if isinstance(layer, nn.BatchNorm1d):
                layer.momentum = 1.0
        module(snapshot.train.x)
    torch.testing.assert_close(judged.mean.matrix[0, d:], statistics_of(module), rtol=1e-10, atol=1e-12)
    assert torch.equal(judged.replicas.matrix[:, d:], world.ensemble.buffers[STATISTICS])
    others = [
        Accuracy()(simulation.snapshot(world))["test_loss_mean_model"]  # type: ignore[arg-type]
        for policy in ("local", "recalibrate")
        for simulation, world in [advanced(small(model=NORMALISED, batch_size=8, running_statistics=policy), 5)]
    ]
    assert others[0] != others[1]


def test_twins_have_statistics_of_the_joint_mini_batch(small: Make) -> None:
    simulation, world = advanced(small(model=NORMALISED, batch_size=8, twins=(Plain(),)), 1)
    (twin,) = world.twins.values()
    start = simulation.start().ensemble
    joint = simulation.objective(0).joint()
    expected = start.buffers[STATISTICS][:1].lerp(joint.statistics(start.params.row(0)), 0.1)
    torch.testing.assert_close(twin.buffers[STATISTICS], expected)
    values = Accuracy()(simulation.snapshot(world))  # type: ignore[arg-type]
    assert 0 <= float(values["centralized_test_accuracy"]) <= 1  # type: ignore[arg-type]


def test_a_residual_network_may_be_normalised_by_batches(small: Make) -> None:
    torch.manual_seed(0)
    net = network(ResNet8(norm="batch").build((3, 8, 8), 10).double(), "cross_entropy")
    assert net.statistics_layout.d > 0
    p = Params(torch.cat([leaf.detach().reshape(-1) for leaf in net.module.parameters()]).repeat(2, 1), net.layout)
    x, y = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.int64)
    loss, grads = Batch(net, x, y).loss_and_grad(p)
    assert loss.isfinite().all()
    assert grads.matrix.isfinite().all()
    assert Batch(net, x, y).statistics(p).shape == (2, net.statistics_layout.d)


def test_a_mini_batch_of_one_example_is_refused(small: Make) -> None:
    with pytest.raises(ValueError, match="batch_size is 1; it must be at least 2"):
        small(model=NORMALISED, batch_size=1)
    with pytest.raises(ValueError, match="running_statistics"):
        small(running_statistics="share")
    with pytest.raises(ValueError, match="running_statistics is local, but the model has no batch normalisation"):
        small(running_statistics="local")
    for m in (1, 7):
        with pytest.raises(ValueError, match=r"batch_size is 8, of which .* a part of one example"):
            small(model=NORMALISED, batch_size=8, gradient=MSam(m=m))
    with pytest.raises(ValueError, match="not_finite is quarantine"):
        small(model=NORMALISED, not_finite="quarantine")


def test_mixed_statistics_are_sent_too(small: Make) -> None:
    mixed, local = (advanced(small(model=NORMALISED, running_statistics=policy), 1) for policy in ("mix", "local"))
    numbers = mixed[0].network.statistics_layout.d
    assert numbers == 2 * (8 + 6)
    assert mixed[1].bytes_sent - local[1].bytes_sent == 4 * 2 * numbers * 8


def test_without_batch_normalisation_there_are_none(small: Make) -> None:
    simulation, world = advanced(small(gradient=Sam(), topology=Static(Topology("ring", 4))), 2)
    snapshot: Any = simulation.snapshot(world)
    assert world.ensemble.buffers == {}
    assert snapshot.judged().network is snapshot.network
