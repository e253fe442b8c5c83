"""TRAM: its divergences, what they are of, and the perturbation's length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn.functional import gelu, kl_div, layer_norm

from dsgd.communicators import Local
from dsgd.data import Text
from dsgd.gradients.asam import Asam
from dsgd.gradients.fisher_sam import FisherSam
from dsgd.gradients.moves import fisher_moved
from dsgd.gradients.plain import Plain
from dsgd.gradients.tram import Tram, divergence, noisy
from dsgd.learning_rates import Constant
from dsgd.models import Mlp, NeuralLm
from dsgd.objectives import Batch, Objective
from dsgd.perturbations import Noise
from dsgd.simulation import Simulation
from dsgd.state import Memory, When
from dsgd.tasks import Task
from dsgd.trees import Params
from tests.gradients.estimates import CPU, Make, estimated


def test_the_divergence_is_torchs_batch_mean() -> None:
    target, current = torch.randn(3, 7, 5, dtype=torch.float64), torch.randn(3, 7, 5, dtype=torch.float64)
    expected = [
        kl_div(c.log_softmax(-1), t.log_softmax(-1), log_target=True, reduction="batchmean")
        for t, c in zip(target, current, strict=True)
    ]
    torch.testing.assert_close(divergence(target, current), torch.stack(expected), rtol=1e-12, atol=0)


class AtRadius(Tram):
    """TRAM with a divergence that is always 0.3."""

    def distance(self, objective: Objective, p: Params, noise: Noise, memory: Memory) -> torch.Tensor:
        return p.matrix.new_full((p.rows, 1), 0.3)


def test_tram_with_a_constant_divergence_is_asam(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    found = estimated(AtRadius(), objective, p)
    torch.testing.assert_close(
        found.grads.matrix, estimated(Asam(0.3, "all"), objective, p).grads.matrix, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("target", ["previous", "initial"])
def test_a_target_that_is_the_model_itself_leaves_the_plain_step(batch: tuple[Objective, Params], target: Any) -> None:
    objective, p = batch
    found = estimated(Tram(target), objective, p)
    assert torch.equal(found.grads.matrix, estimated(Plain(), objective, p).grads.matrix)
    assert not found.gauges["d"].any()


def test_trams_targets_are_what_they_say(batch: tuple[Objective, Params]) -> None:
    """And the recorded d is the radius of the recorded perturbation where each parameter is measured by its size."""
    objective, p = batch
    later = p.like(p.matrix + 0.1 * torch.randn_like(p.matrix))
    for target, remembered in (("previous", later), ("initial", p)):
        gradient = Tram(target)  # type: ignore[arg-type]
        second = estimated(gradient, objective, later, estimated(gradient, objective, p).memory, When(1, 0.1))
        expected = divergence(objective.logits(p), objective.logits(later))
        torch.testing.assert_close(second.gauges["d"][:, 0], expected, rtol=1e-12, atol=0)
        assert torch.equal(second.memory["target"], remembered.matrix)


def test_trams_gauge_has_length_d_in_its_own_measure(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    seen: list[Params] = []

    @dataclass(frozen=True)
    class Seen(Batch):
        def loss_and_grad(self, p: Params, weights: Any = None) -> tuple[torch.Tensor, Params]:
            seen.append(p)
            return super().loss_and_grad(p, weights)

    assert isinstance(objective, Batch)
    distances = []
    for sigma in (0.05, 0.1, 0.3):
        seen.clear()
        found = estimated(Tram("input", sigma=sigma), Seen(**objective.__dict__), p)
        offset = seen[-1].matrix - p.matrix
        own_measure = (offset / p.matrix).norm(dim=1)
        torch.testing.assert_close(own_measure, found.gauges["d"][:, 0], rtol=1e-5, atol=0)
        torch.testing.assert_close(found.gauges["own_length"], found.gauges["d"], rtol=1e-5, atol=0)
        torch.testing.assert_close(offset.norm(dim=1), found.gauges["length"][:, 0], rtol=1e-12, atol=0)
        distances.append(found.gauges["d"])
    assert (distances[0] < distances[1]).all()
    assert (distances[1] < distances[2]).all()


def test_the_divergence_is_scaled_and_that_of_a_step_is_tiny(small: Make, batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    noted = [estimated(Tram("input", d_scale=scale), objective, p).gauges["d"] for scale in (1.0, 7.0)]
    torch.testing.assert_close(7 * noted[0], noted[1])
    run = small(model=Mlp((8,)), gradient=Tram("previous"), batch_size=16, learning_rate=Constant(0.02))
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.start()
    for _ in range(20):
        world = simulation.advance(world)
    d = world.ensemble.memory["gauges"]["d"]
    assert (d > 0).all()
    assert (d < 1e-3).all()


def test_a_run_reports_what_tram_notes(small: Make) -> None:
    import dsgd
    from dsgd.metrics import Gauges

    (row, last) = dsgd.train(small(gradient=Tram("input"), metrics=(Gauges(),), measure_every=20), device="cpu").history
    assert row.keys() == {"step", "lr", "bytes_sent"}
    assert float(last["gauge_d"]) > 0  # type: ignore[arg-type]
    assert float(last["gauge_length"]) > 0  # type: ignore[arg-type]


def test_trams_fisher_is_fisher_sams_with_the_squared_gradient_of_noised_inputs(
    batch: tuple[Objective, Params],
) -> None:
    objective, p = batch
    silent = estimated(Tram("fisher", sigma=0.0), objective, p).grads.matrix
    torch.testing.assert_close(silent, estimated(FisherSam(), objective, p).grads.matrix, rtol=1e-12, atol=1e-14)
    apart, single = (estimated(Tram("fisher", single_pass=one), objective, p).grads.matrix for one in (False, True))
    assert not torch.equal(apart, silent)
    noised = noisy(objective, Noise(0, tuple((0, j) for j in range(4))), 0.1)
    of, clean = noised.loss_and_grad(p)[1], objective.loss_and_grad(p)[1]
    for found, g in ((apart, clean), (single, of)):
        point = fisher_moved(p, g, of, 0.1, 0.1)
        torch.testing.assert_close(found, objective.loss_and_grad(point)[1].matrix, rtol=1e-10, atol=1e-13)


def test_parameters_that_are_zero_have_no_length_of_their_own(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    p = p.like(p.matrix.clone())
    p.matrix[:, :50] = 0
    found = estimated(Tram("input"), objective, p)
    torch.testing.assert_close(found.gauges["own_length"], found.gauges["d"], rtol=1e-5, atol=0)
    moved = estimated(Tram("fisher"), objective, p).gauges["own_length"]  # those that are 0 too
    assert moved.isfinite().all()
    assert (moved < 1e6).all()


def test_the_noise_of_tokens_is_on_their_embeddings(small: Make) -> None:
    """By a network written out, whose first layer sees the embeddings with the noise that is drawn for the step."""
    run = small(task=Task(Text("names", 5, 60, 30)), model=NeuralLm(3, 4), gradient=Tram("input", sigma=0.3))
    simulation = Simulation(run, Local(4), CPU)
    p, objective = simulation.start().ensemble.params, simulation.objective(0)
    noise = simulation.noise(0, p)
    drawn = 0.3 * noise.normal(p.matrix.new_empty(4, 4 * 5 * 3), "inputs").view(4, 4, 5, 3)
    expected = []
    for j in range(4):
        embedded = p["embedding.weight"][j][objective.x[j].long()] + drawn[j]
        hidden = embedded.flatten(1) @ p["hidden.weight"][j].T + p["hidden.bias"][j]
        normal = layer_norm(hidden, (4,), p["norm.weight"][j], p["norm.bias"][j])
        expected.append(gelu(normal) @ p["output.weight"][j].T + p["output.bias"][j])
    noised = noisy(objective, noise, 0.3)
    torch.testing.assert_close(noised.logits(p), torch.stack(expected), rtol=1e-12, atol=1e-12)
    d = run.gradient.estimate(objective, p, noise, {}, When(0, 0.1)).gauges["d"][:, 0]
    torch.testing.assert_close(d, divergence(torch.stack(expected), objective.logits(p)), rtol=1e-12, atol=0)
