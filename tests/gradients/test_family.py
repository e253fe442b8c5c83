"""The sharpness-aware family: golden steps, reductions of one method to another, and what all of them keep to.

Golden values: f(w) = w^T H w / 2 + b^T w, H = diag(4, 1), b = (0.5, -0.25), from (1, -2) with lr 0.1, computed by hand
and found by the public codes of the methods too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from dsgd import trees
from dsgd.communicators import Local
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.asam import Asam
from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.csam import Csam
from dsgd.gradients.fisher_sam import FisherSam
from dsgd.gradients.gsam import Gsam
from dsgd.gradients.imb_sam import ImbSam
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.plain import Plain
from dsgd.gradients.random_direction import RandomDirection
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.tram import Tram
from dsgd.gradients.unified_sam import UnifiedSam
from dsgd.gradients.usam import Usam
from dsgd.gradients.vasso import Vasso
from dsgd.learning_rates import Constant
from dsgd.models import Mlp
from dsgd.objectives import Objective
from dsgd.optimizers import Sgd
from dsgd.simulation import Simulation
from dsgd.state import When
from dsgd.trees import Layout, Params, Scaled
from tests.gradients.estimates import CPU, START, Make, Quadratics, at, estimated, numbers


def stepped(
    gradient: Gradient, objective: Any, steps: int = 1, optimizer: Sgd | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(g, w) after each step."""
    optimizer, p, found = optimizer or Sgd(), at(*START), []
    memory, moments = gradient.init(p), optimizer.init(p)
    for step in range(steps):
        estimate = estimated(gradient, objective, p, memory, When(step, 0.1))
        memory = estimate.memory
        update, moments = optimizer.update(estimate.grads, moments, p, 0.1)
        p = p + update
        found.append((estimate.grads.matrix[0], p.matrix[0]))
    return found


def _fisher() -> tuple[float, float]:
    """H (w + gamma F g / sqrt(g^T F g)) + b, F = 1 / (1 + eta g^2), in plain numbers."""
    g, f = (4.5, -2.25), [1 / (1 + 0.1 * x * x) for x in (4.5, -2.25)]
    length = math.sqrt(sum(x * x * y for x, y in zip(g, f, strict=True)))
    point = [w + 0.1 * y * x / length for w, x, y in zip(START, g, f, strict=True)]
    return 4 * point[0] + 0.5, point[1] - 0.25


FISHER = _fisher()
GOLDEN: dict[str, tuple[Gradient, tuple[float, float], tuple[float, float]]] = {
    "plain": (Plain(), (4.5, -2.25), (0.55, -1.775)),
    "sam": (Sam(0.1), (4.8577708764, -2.2947213595), (0.5142229124, -1.770527864)),
    "usam": (Usam(0.1), (6.3, -2.475), (0.37, -1.7525)),
    "ssam on sam": (Ssam(0.1, "sam"), (4.549133338, -2.1489266793), (0.5450866662, -1.7851073321)),
    "ssam on usam": (Ssam(0.1, "usam"), (4.6827531214, -1.839653012), (0.5317246879, -1.8160346988)),
    "asam of all": (Asam(0.1, "all"), (4.7828427125, -2.3914213562), (0.5217157288, -1.7608578644)),
    "asam of weights": (Asam(0.1, "weights"), (4.7863791193, -2.3917753505), (0.5213620881, -1.760822465)),
    "fisher_sam": (FisherSam(0.1, 0.1), FISHER, tuple(w - 0.1 * g for w, g in zip(START, FISHER, strict=True))),
    "gsam": (Gsam(0.1, 0.1, 0.4), (4.8769702454, -2.254077586), (0.5123029755, -1.7745922414)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_first_step_has_the_golden_value(name: str) -> None:
    gradient, g, w = GOLDEN[name]
    ((found, after),) = stepped(gradient, Quadratics())
    torch.testing.assert_close(found, numbers(*g), rtol=0, atol=1e-9)
    torch.testing.assert_close(after, numbers(*w), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("gradient", "w"),
    [(Sam(0.1), (0.5042229124, -1.750527864)), (Ssam(0.1, "sam"), (0.5350866662, -1.7651073321))],
    ids=["sam", "ssam"],
)
def test_weight_decay_is_added_at_w_and_takes_no_part_in_the_ascent(gradient: Gradient, w: tuple[float, ...]) -> None:
    ((_, after),) = stepped(gradient, Quadratics(), optimizer=Sgd(weight_decay=0.1))
    torch.testing.assert_close(after, numbers(*w), rtol=0, atol=1e-9)


def test_weight_decay_within_the_loss_takes_part_in_the_ascent() -> None:
    """wd |w|^2 / 2 added to f, wd = 0.1."""
    ((_, after),) = stepped(Sam(0.1), Quadratics((((4.1, 1.1), (0.5, -0.25)),)))
    torch.testing.assert_close(after, numbers(0.5038126468, -1.7498290076), rtol=0, atol=1e-9)


def test_the_second_steps_have_the_golden_values() -> None:
    gradient = LookSam(0.1, k=2, alpha=0.7)
    first = estimated(gradient, Quadratics(), at(*START))
    torch.testing.assert_close(first.memory["orthogonal"][0], numbers(0.0536656315, 0.1073312629), rtol=0, atol=1e-9)
    (_, _), (g, w) = stepped(gradient, Quadratics(), 2)
    torch.testing.assert_close(g, numbers(3.5770790441, 0.0198469252), rtol=0, atol=1e-9)
    torch.testing.assert_close(w, numbers(0.156515008, -1.7725125566), rtol=0, atol=1e-9)
    (_, _), (_, w) = stepped(Vasso(0.1, theta=0.9), Quadratics(), 2)
    torch.testing.assert_close(w, numbers(0.2264224552, -1.5625123554), rtol=0, atol=1e-9)


TWO = Quadratics((((4.0, 1.0), (0.5, -0.25)), ((1.0, 3.0), (-1.0, 0.5))))


def test_m_sam_perturbs_each_part_on_its_own() -> None:
    ((_, apart),) = stepped(MSam(0.1, m=1), TWO)
    torch.testing.assert_close(apart, numbers(0.7571114562, -1.595263932), rtol=0, atol=1e-9)
    ((_, together),) = stepped(MSam(0.1, m=2), TWO)
    torch.testing.assert_close(together, numbers(0.7624466121, -1.5952042211), rtol=0, atol=1e-9)


def test_what_is_left_of_a_batch_weighs_by_its_examples() -> None:
    three = Quadratics((*TWO.examples, ((2.0, 2.0), (1.0, 1.0))))
    ((rest, _),) = stepped(MSam(0.0, m=2), three)
    ((whole, _),) = stepped(Plain(), three)
    torch.testing.assert_close(rest, whole, rtol=1e-14, atol=0)


SWITCHED_OFF: dict[str, Gradient] = {
    "sam": Sam(0),
    "usam": Usam(0),
    "unified_sam": UnifiedSam(0, 0.5),
    "m_sam": MSam(0, 8),
    "asam": Asam(0),
    "fisher_sam": FisherSam(0),
    "gsam": Gsam(0, 0, 0),
    "look_sam": LookSam(0, alpha=0),
    "vasso": Vasso(0),
    "ssam": Ssam(0),
    "imb_sam": ImbSam(eta=0),
    "csam": Csam(0, 0),
    "tram": Tram(d_scale=0),
    "random_direction": RandomDirection(0),
    "average_direction": AverageDirection(0),
}


@pytest.mark.parametrize("name", SWITCHED_OFF)
def test_without_a_radius_each_is_the_plain_gradient(batch: tuple[Objective, Params], name: str) -> None:
    objective, p = batch
    expected = estimated(Plain(), objective, p)
    found = estimated(SWITCHED_OFF[name], objective, p)
    torch.testing.assert_close(found.grads.matrix, expected.grads.matrix, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(found.loss, expected.loss)


SAME: dict[str, tuple[Gradient, Gradient]] = {
    "gsam without alpha is sam": (Gsam(0.05, 0.05, 0), Sam(0.05)),
    "look_sam of every step is sam": (LookSam(0.05, k=1), Sam(0.05)),
    "vasso of the newest is sam": (Vasso(0.05, 1), Sam(0.05)),
    "unified_sam at 0 is usam": (UnifiedSam(0.05, 0.0), Usam(0.05)),
    "unified_sam at 1 is sam": (UnifiedSam(0.05, 1.0), Sam(0.05)),
    "m_sam of one part is sam": (MSam(0.05, 8), Sam(0.05)),
    "fisher_sam without eta is sam": (FisherSam(0.05, 0), Sam(0.05)),
    "imb_sam of tails alone is sam": (ImbSam(0.05, eta=math.inf), Sam(0.05)),
    "csam without gamma is sam": (Csam(0.05, 0), Sam(0.05)),
}


@pytest.mark.parametrize("name", SAME)
def test_one_method_is_another_at_the_end_of_its_range(batch: tuple[Objective, Params], name: str) -> None:
    objective, p = batch
    found, expected = (estimated(gradient, objective, p).grads.matrix for gradient in SAME[name])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert not torch.allclose(expected, estimated(Plain(), objective, p).grads.matrix, rtol=1e-3)


def test_asam_of_weights_without_any_scaling_is_sam(batch: tuple[Objective, Params]) -> None:
    """T = 1 for leaves without "weight" in their names."""
    objective, p = batch
    renamed = Params(p.matrix, Layout(tuple(f"w{i}" for i in range(len(p))), p.layout.shapes))

    @dataclass(frozen=True)
    class Renamed:
        inner: Objective

        def loss_and_grad(self, q: Params) -> tuple[torch.Tensor, Params]:
            loss, grads = self.inner.loss_and_grad(p.like(q.matrix))
            return loss, q.like(grads.matrix)

    found = estimated(Asam(0.05), Renamed(objective), renamed).grads.matrix
    torch.testing.assert_close(found, estimated(Sam(0.05), objective, p).grads.matrix, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("ascent", ["sam", "usam"])
def test_ssam_has_the_direction_of_its_ascent_and_the_plain_length(
    batch: tuple[Objective, Params], ascent: Any
) -> None:
    objective, p = batch
    found = estimated(Ssam(0.5, ascent), objective, p).grads
    perturbed = estimated(Sam(0.5) if ascent == "sam" else Usam(0.5), objective, p).grads
    plain = estimated(Plain(), objective, p).grads
    torch.testing.assert_close(trees.norm(found), trees.norm(plain), rtol=1e-10, atol=0)
    cosine = trees.dot(found, perturbed) / (trees.norm(found) * trees.norm(perturbed))
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=1e-10, atol=0)


def test_gsams_radius_follows_the_learning_rate_and_is_never_negative() -> None:
    gradient = Gsam(0.6, 0.1)
    for lr, rho in ((0.3, 0.6), (0.1, 0.1), (0.2, 0.35), (0.0, 0.0)):
        assert gradient.radius(When(0, lr, lr_max=0.3, lr_last=0.1)) == pytest.approx(rho)
    assert gradient.radius(When(0, 0.1, 0.1, 0.1)) == 0.6
    with pytest.raises(ValueError, match=r"rho_max is 0\.01, below rho_min of 0\.02"):
        Gsam(0.01, 0.02)


def test_what_gsam_takes_away_is_orthogonal_to_the_perturbed_gradient(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    with_, without = (estimated(Gsam(0.5, 0.5, alpha), objective, p).grads for alpha in (0.4, 0.0))
    taken = without - with_
    assert float((trees.dot(taken, without) / trees.dot(without, without)).abs().max()) < 1e-12
    assert float(trees.norm(taken).min()) > 1e-4


def test_unified_sam_grows_from_usam_to_sam(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    growing = UnifiedSam(0.05, "1-1/t")
    for step, lam in ((0, 0.0), (3, 0.75)):
        found = estimated(growing, objective, p, when=When(step, 0.1)).grads.matrix
        assert torch.equal(found, estimated(UnifiedSam(0.05, lam), objective, p).grads.matrix)


def test_look_sam_uses_what_it_remembers_and_forgets_what_is_rounding(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    for projection in ("global", "tensor"):
        gradient = LookSam(0.5, k=3, alpha=0.7, projection=projection)  # type: ignore[arg-type]
        first = estimated(gradient, objective, p)
        plain = estimated(Plain(), objective, p).grads
        second = estimated(gradient, objective, p, first.memory, When(1, 0.1))
        added = second.grads - plain
        torch.testing.assert_close(trees.norm(added), 0.7 * trees.norm(plain), rtol=1e-6, atol=0)
        assert second.memory["orthogonal"] is first.memory["orthogonal"]
        fourth = estimated(gradient, objective, p, second.memory, When(3, 0.1))
        torch.testing.assert_close(fourth.grads.matrix, estimated(Sam(0.5), objective, p).grads.matrix)
    round_bowl = Quadratics((((3.0, 3.0), (0.0, 0.0)),))
    memory = estimated(LookSam(0.1), round_bowl, at(*START)).memory
    between = estimated(LookSam(0.1), round_bowl, at(*START), memory, When(1, 0.1)).grads
    assert torch.equal(between.matrix, estimated(Plain(), round_bowl, at(*START)).grads.matrix)


@pytest.mark.parametrize("name", GRADIENTS)
def test_where_the_gradient_is_zero_nothing_is_perturbed(name: str) -> None:
    """No NaN, and for methods of two passes the very point again."""
    if getattr(GRADIENTS[name], "classifies", False) or name == "weight_diversity":
        pytest.skip("needs examples, or replicas")
    flat = Quadratics((((0.0, 0.0), (0.0, 0.0)),))
    found = estimated(GRADIENTS[name](), flat, at(*START))
    assert torch.equal(found.grads.matrix, torch.zeros(1, 2, dtype=torch.float64))
    if "direction" not in name:
        assert all(torch.equal(point[0], numbers(*START)) for point in flat.points)


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_replicas_are_left_as_they_are_and_the_loss_is_that_at_them(small: Make, name: str) -> None:
    run = small(gradient=GRADIENTS[name](), model=Mlp((8,)))
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.advance(simulation.start())
    p, memory = world.ensemble.params, world.ensemble.memory["gradient"]
    before, remembered = p.matrix.clone(), {key: value.clone() for key, value in memory.items()}
    objective = simulation.objective(1)
    found = run.gradient.estimate(objective, p, simulation.noise(1, p), memory, run.when(1))
    assert torch.equal(p.matrix, before)
    assert all(torch.equal(memory[key], value) for key, value in remembered.items())
    assert found.grads.matrix.data_ptr() != p.matrix.data_ptr()
    if name not in ("random_direction", "average_direction", "weight_diversity", "rsgs"):
        torch.testing.assert_close(found.loss, objective.loss(p))


@pytest.mark.parametrize("name", [name for name in GRADIENTS if name != "rsgs"])
def test_every_method_learns_the_digits(small: Make, name: str) -> None:
    run = small(gradient=GRADIENTS[name](), model=Mlp((8,)), batch_size=16, steps=100)
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.start()
    before = simulation.objective(0).joint().loss(world.ensemble.params)
    for _ in range(run.steps):
        world = simulation.advance(world)
    assert (simulation.objective(0).joint().loss(world.ensemble.params) < 0.8 * before).all()


def test_with_a_learning_rate_of_nothing_the_replicas_stay_to_the_bit(small: Make) -> None:
    for name in GRADIENTS:
        run = small(gradient=GRADIENTS[name](), learning_rate=Constant(1e-300), n=1, optimizer=Sgd(momentum=0.9))
        simulation = Simulation(run, Local(1), CPU)
        world = start = simulation.start()
        for _ in range(3):
            world = simulation.advance(world)
        assert torch.equal(world.ensemble.params.matrix, start.ensemble.params.matrix), name


def test_decentralized_sam_on_the_complete_graph_is_m_sam(small: Make) -> None:
    """A replica is a part of the joint mini-batch: 200 steps with momentum."""
    run = small(
        graph="complete",
        n=4,
        gradient=Sam(0.1),
        batch_size=8,
        optimizer=Sgd(momentum=0.9),
        algorithm="adapt_then_combine",
        steps=200,
    )
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.start()
    p, method = world.ensemble.params.row(0), MSam(0.1, m=8)
    memory, moments, plain = method.init(p), run.optimizer.init(p), p
    for step in range(run.steps):
        joint, when = simulation.objective(step).joint(), run.when(step)
        assert joint.y.shape == (32,)
        update, moments = run.optimizer.update(estimated(method, joint, p, memory).grads, moments, p, when.lr)
        p = p + update
        plain = plain + Scaled(estimated(Plain(), joint, plain).grads, -when.lr)
        world = simulation.advance(world)
    torch.testing.assert_close(world.ensemble.params.matrix, p.matrix.expand(4, -1), rtol=1e-10, atol=1e-10)
    assert float((plain.matrix - p.matrix).abs().max()) > 1e-2
