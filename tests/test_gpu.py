"""On a GPU: the CPU's numbers, captured or not, and no step that waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends import train
from dsgd.communicators import Local
from dsgd.kernels.captured import Captured, launch_bound
from dsgd.kernels.stacked import Stacked
from dsgd.models import Cnn, Mlp, Model
from dsgd.optimizers import AdamW, Sgd
from dsgd.run import Run
from dsgd.simulation import Simulation
from topologies import OnePeerExponential, Static, Topology

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here"),
]
Make = Callable[..., Run]


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """A call from which on, for the rest of the test, whatever waits for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("model", [Mlp((8,)), Cnn((4,))], ids=["mlp", "cnn"])
def test_the_numbers_are_the_cpus(small: Make, model: Model, algorithm: str) -> None:
    """Where the runs draw no noise on the device, whose streams are its own."""
    run = small(model=model, algorithm=algorithm, optimizer=Sgd(momentum=0.9), steps=50)
    on_cpu, on_gpu = (train(run, device=device).params for device in ("cpu", "cuda"))
    for name, leaf in on_cpu.items():
        torch.testing.assert_close(on_gpu[name].cpu(), leaf, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "parts",
    [
        {"topology": Static(Topology("ring", 200)), "batch_size": 1},
        {"topology": OnePeerExponential(4)},
        {"optimizer": AdamW()},
        {"gradient_noise": 0.1},
    ],
    ids=["sparse product", "one peer", "adamw", "noise"],
)
def test_a_step_does_not_wait_for_the_device(
    small: Make, no_waiting: Callable[[], None], parts: dict[str, Any]
) -> None:
    """Once its mini-batches lie there, 64 steps at a time, and its matrices and graphs are ready."""
    run = small(**parts)
    simulation = Simulation(run, Local(run.n), torch.device("cuda"))
    world = simulation.start()
    for _ in range(8):
        world = simulation.advance(world)
    no_waiting()
    for _ in range(8):
        world = simulation.advance(world)
    torch.cuda.set_sync_debug_mode("default")
    assert bool(world.ensemble.params.matrix.isfinite().all())


def test_what_is_captured_gives_the_uncaptured_numbers(small: Make, no_waiting: Callable[[], None]) -> None:
    """With data of each replica's own and shared, weighted or not, and without waiting for the device."""
    run = small(batch_size=8)
    simulation = Simulation(run, Local(run.n), torch.device("cuda"))
    kernels, uncaptured = simulation.network.kernels, Stacked(simulation.network)
    assert isinstance(kernels, Captured)
    start = simulation.start().ensemble.params
    points = [start.like(start.matrix + 0.1 * torch.randn_like(start.matrix)) for _ in range(3)]
    weights = torch.rand(run.n, 8, dtype=start.matrix.dtype, device="cuda")
    found, expected = [], []
    for recorded in (False, True):
        if recorded:
            no_waiting()
        for step, p in enumerate(points):
            batch = simulation.feed.batch(step)
            joint = batch.joint()
            for given in (
                (p, batch.x, batch.y, False, None),
                (p, batch.x, batch.y, False, weights),
                (p, joint.x, joint.y, True, None),
            ):
                found.append(kernels.loss_and_grad(*given))
                expected.append(uncaptured.loss_and_grad(*given))
    torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_what_is_large_is_not_captured_and_gives_the_same_numbers(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small(steps=5)
    captured = train(run, device="cuda").params
    monkeypatch.setattr("dsgd.kernels.captured.MOST_NUMBERS", 0)
    assert not launch_bound(rows=1, d=1, examples=1)
    for name, leaf in train(run, device="cuda").params.items():
        torch.testing.assert_close(captured[name], leaf, rtol=1e-12, atol=1e-14)
