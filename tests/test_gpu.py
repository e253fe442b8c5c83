"""On a GPU: the CPU's numbers, and no step that waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends import train
from dsgd.communicators import Local
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
def test_a_step_does_not_wait_for_the_device(small: Make, parts: dict[str, Any]) -> None:
    """Once its mini-batches lie there, 64 steps at a time, and its matrices are ready."""
    run = small(**parts)
    simulation = Simulation(run, Local(run.n), torch.device("cuda"))
    world = simulation.start()
    for _ in range(8):
        world = simulation.advance(world)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(8):
            world = simulation.advance(world)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(world.ensemble.params.matrix.isfinite().all())
