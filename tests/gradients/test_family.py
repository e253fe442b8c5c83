"""The sharpness-aware family: golden steps, reductions of one method to another, and what all of them keep to.

Golden values: f(w) = w^T H w / 2 + b^T w, H = diag(4, 1), b = (0.5, -0.25), from (1, -2) with lr 0.1, computed by hand
and found by the public codes of the methods too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div

from dsgd import trees
from dsgd.communicators import Local
from dsgd.data import Digits
from dsgd.gradients import GRADIENTS, Gradient
from dsgd.gradients.asam import Asam
from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.csam import Calibrated, Csam
from dsgd.gradients.fisher_sam import FisherSam
from dsgd.gradients.gsam import Gsam
from dsgd.gradients.imb_sam import ImbSam
from dsgd.gradients.look_sam import LookSam
from dsgd.gradients.m_sam import MSam
from dsgd.gradients.moves import fisher_moved
from dsgd.gradients.plain import Plain
from dsgd.gradients.random_direction import RandomDirection
from dsgd.gradients.rsgs import Entropy, Rsgs
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.tram import Tram, divergence, noisy
from dsgd.gradients.unified_sam import UnifiedSam
from dsgd.gradients.usam import Usam
from dsgd.gradients.vasso import Vasso
from dsgd.learning_rates import Constant
from dsgd.models import Mlp
from dsgd.objectives import Batch, Objective, network
from dsgd.optimizers import Sgd
from dsgd.perturbations import Noise
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.state import Memory, When
from dsgd.tasks import Task
from dsgd.trees import Layout, Params, Scaled

Make = Callable[..., Run]
CPU = torch.device("cpu")
FIRST = When(0, 0.1)
START = (1.0, -2.0)


def numbers(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Quadratics:
    """The mean of w^T diag(h) w / 2 + b^T w over examples (h, b); `points` notes where the gradient was asked for."""

    examples: tuple[tuple[tuple[float, float], tuple[float, float]], ...] = (((4.0, 1.0), (0.5, -0.25)),)
    points: list[torch.Tensor] = field(default_factory=list)

    @property
    def y(self) -> torch.Tensor:
        return torch.zeros(1, len(self.examples))

    def loss_and_grad(self, p: Params) -> tuple[torch.Tensor, Params]:
        self.points.append(p.matrix.clone())
        h, b = (numbers(*(example[i] for example in self.examples)).mean(dim=0) for i in (0, 1))
        w = p.matrix
        return (w * w * h / 2 + w * b).sum(dim=1), p.like(w * h + b)

    def joint(self) -> Quadratics:
        return self

    def part(self, start: int, stop: int) -> Quadratics:
        return Quadratics(self.examples[start:stop], self.points)


def at(*w: float) -> Params:
    return Params(numbers(w), Layout(("weight",), ((len(w),),)))


def estimated(gradient: Gradient, objective: Any, p: Params, memory: Memory | None = None, when: When = FIRST) -> Any:
    memory = gradient.init(p) if memory is None else memory
    return gradient.estimate(objective, p, Noise(when.step, tuple((0, j) for j in range(p.rows))), memory, when)


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


# On digits, with real mini-batches -----------------------------------------------------------------------------------


@pytest.fixture
def batch(small: Make) -> tuple[Objective, Params]:
    """A mini-batch of each of four replicas that have left their start."""
    simulation = Simulation(small(model=Mlp((8,)), batch_size=8), Local(4), CPU)
    world = simulation.start()
    for _ in range(5):
        world = simulation.advance(world)
    return simulation.objective(5), world.ensemble.params


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


# ImbSAM --------------------------------------------------------------------------------------------------------------


def imbalanced(*labels: int) -> tuple[Batch, Params]:
    """One replica's mini-batch with these labels, of data in which class k has 10 (k + 1) examples."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    net = network(module, "cross_entropy")
    p = Params(torch.randn(1, net.layout.d, dtype=torch.float64), net.layout)
    x, y = torch.randn(1, len(labels), 5, dtype=torch.float64), torch.tensor([labels])
    return Batch(net, x, y, counts=lambda of: torch.tensor([[10, 20, 30]])), p


def test_a_mini_batch_without_tails_is_a_plain_step_bit_for_bit() -> None:
    objective, p = imbalanced(1, 2, 2, 1, 2)
    assert torch.equal(
        estimated(ImbSam(eta=20), objective, p).grads.matrix, estimated(Plain(), objective, p).grads.matrix
    )


@pytest.mark.parametrize("c", [1.0, 2.0])
def test_imb_sam_is_the_heads_gradient_and_the_tails_where_it_is_worst(c: float) -> None:
    labels = (0, 1, 2, 0, 2)
    objective, p = imbalanced(*labels)
    tail = numbers([label == 0 for label in labels])
    head_g = objective.loss_and_grad(p, (1 - tail) / 5)[1]
    tail_g = objective.loss_and_grad(p, tail / 5)[1]
    offset = tail_g * (0.3 / trees.norm(tail_g))
    flat = objective.loss_and_grad(p + offset, tail / 5)[1]
    found = estimated(ImbSam(0.3, eta=20, tail_weight=c), objective, p)
    torch.testing.assert_close(found.grads.matrix, (head_g + flat * c).matrix, rtol=1e-10, atol=1e-12)
    assert float(trees.norm(offset)) == pytest.approx(0.3, rel=1e-12)


def test_class_counts_are_of_all_examples_or_of_a_replicas_own(small: Make) -> None:
    from dsgd.data import Dirichlet

    run = small(task=Task(Digits(train_size=400), Dirichlet(0.3)), n=4)
    simulation = Simulation(run, Local(4), CPU)
    objective = simulation.objective(0)
    own, total = objective.class_counts("local"), objective.class_counts("global")
    assert own.shape == (4, 10)
    assert torch.equal(own.sum(dim=0, keepdim=True), total)
    assert torch.equal(total[0], simulation.train.y.bincount())
    assert torch.equal(objective.joint().class_counts("local"), total)


def test_the_tail_is_of_all_counts_or_of_the_replicas_own(small: Make) -> None:
    """By their gauge: the share of tail examples in the mini-batch."""
    from dsgd.data import Dirichlet

    run = small(task=Task(Digits(train_size=400), Dirichlet(0.3)), n=4, batch_size=16)
    simulation = Simulation(run, Local(4), CPU)
    objective, p = simulation.objective(0), simulation.start().ensemble.params
    for of in ("global", "local"):
        gradient = ImbSam(eta=12, counts=of)  # type: ignore[arg-type]
        rare = (objective.class_counts(of) < 12).expand(4, -1)
        expected = torch.stack([row[y].double().mean() for row, y in zip(rare, objective.y, strict=True)])
        found = estimated(gradient, objective, p)
        torch.testing.assert_close(found.gauges["tail"][:, 0], expected)
        assert torch.equal(found.grads.matrix, estimated(Plain(), objective, p).grads.matrix) == (of == "global")


# CSAM ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_the_calibrated_losss_gradient_has_its_closed_form(gamma: float) -> None:
    outputs = (3 * torch.randn(50, 4, dtype=torch.float64)).requires_grad_()
    y = torch.randint(0, 4, (50,))
    p = outputs.softmax(dim=-1).gather(1, y[:, None])[:, 0].detach()
    (found,) = torch.autograd.grad(Calibrated(gamma, False)(outputs, y).sum(), outputs)
    factor = ((1 + p) ** -gamma * (1 - gamma * p * p.log() / (1 + p))).where(p > 0.5, 1.0)
    softmax_less_label = outputs.detach().softmax(dim=-1) - torch.nn.functional.one_hot(y, 4)
    torch.testing.assert_close(found, factor[:, None] * softmax_less_label, rtol=1e-12, atol=1e-14)
    (detached,) = torch.autograd.grad(Calibrated(gamma, True)(outputs, y).sum(), outputs)
    weight = ((1 + p) ** -gamma).where(p > 0.5, 1.0)
    torch.testing.assert_close(detached, weight[:, None] * softmax_less_label, rtol=1e-12, atol=1e-14)
    assert 0 < int((p > 0.5).sum()) < 50


def test_csam_is_sam_where_nobody_is_sure_and_without_gamma() -> None:
    objective, p = imbalanced(0, 1, 2, 0)
    unsure = p.like(0.01 * p.matrix)
    assert torch.equal(
        estimated(Csam(0.05, 0.0), objective, p).grads.matrix, estimated(Sam(0.05), objective, p).grads.matrix
    )
    torch.testing.assert_close(
        estimated(Csam(0.01, 2.0), objective, unsure).grads.matrix,
        estimated(Sam(0.01), objective, unsure).grads.matrix,
        rtol=1e-12,
        atol=1e-15,
    )
    found, other = (estimated(g, objective, p).grads.matrix for g in (Csam(0.05, 2.0), Sam(0.05)))
    assert float((found - other).norm() / other.norm()) > 0.01


def test_a_detached_weight_reaches_the_step() -> None:
    objective, p = imbalanced(0, 1, 2, 0)
    found, other = (estimated(Csam(0.05, 2.0, detach), objective, p).grads.matrix for detach in (True, False))
    worst = p + objective.loss_and_grad(p)[1] * (0.05 / trees.norm(objective.loss_and_grad(p)[1]))
    expected = objective.under(Calibrated(2.0, True)).loss_and_grad(worst)[1].matrix
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found, other, rtol=1e-3)


# TRAM ----------------------------------------------------------------------------------------------------------------


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


# RSGS ----------------------------------------------------------------------------------------------------------------


def everything(**knobs: Any) -> Rsgs:
    return Rsgs(**{"margin": math.inf, **knobs})


def test_rsgs_without_alpha_rho_and_margin_is_entropy_minimisation(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    entropy = objective.under(Entropy()).loss_and_grad(p)
    found = estimated(everything(rho=0, alpha=0), objective, p)
    torch.testing.assert_close(found.grads.matrix, entropy[1].matrix, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.loss, entropy[0])


def test_rsgs_moves_by_sure_examples_alone_and_not_at_all_without_any(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    entropies = Entropy()(objective.logits(p), objective.y)
    middle = float(entropies.median()) / math.log(10)
    found = estimated(Rsgs(rho=0, alpha=0, margin=middle), objective, p)
    chosen = (entropies < middle * math.log(10)).double()
    assert 0 < chosen.sum() < chosen.numel()
    expected = objective.under(Entropy()).loss_and_grad(p, chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1))[1]
    torch.testing.assert_close(found.grads.matrix, expected.matrix, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.gauges["kept"][:, 0], chosen.mean(dim=1))
    nobody = estimated(Rsgs(margin=1e-9), objective, p)
    assert not nobody.grads.matrix.any()
    assert not nobody.gauges["length"].any()


def test_rsgs_looks_again_who_is_sure_where_it_has_moved_to(batch: tuple[Objective, Params]) -> None:
    """Those sure at both points, by the entropy of the scaled outputs."""
    objective, p = batch
    entropy = Entropy(1.7)
    limit = float(entropy(objective.logits(p), objective.y).median())
    gradient = Rsgs(rho=2.0, alpha=0.3, margin=limit / math.log(10), scale=1.7)
    under = objective.under(entropy)
    sure = entropy(objective.logits(p), objective.y) < limit
    g = under.loss_and_grad(p, sure / sure.sum(dim=1, keepdim=True).clamp(min=1).double())[1]
    worst = p + g * (2.0 / (trees.norm(g) + 1e-12))
    then = entropy(objective.logits(worst), objective.y) < limit
    assert (sure & ~then).any() or (~sure & then).any()
    both = sure & then
    h = under.loss_and_grad(worst, both / both.sum(dim=1, keepdim=True).clamp(min=1).double())[1]
    share = trees.dot(g, h) / trees.dot(h, h).clamp(min=1e-30)
    expected = (h - (g - h * share) * 0.3) * both.any(dim=1).double()
    torch.testing.assert_close(estimated(gradient, objective, p).grads.matrix, expected.matrix, rtol=1e-9, atol=1e-12)


def test_rsgs_takes_away_what_is_orthogonal_to_the_perturbed_gradient(batch: tuple[Objective, Params]) -> None:
    objective, p = batch
    with_, without = (estimated(everything(rho=0.5, alpha=alpha), objective, p).grads for alpha in (1.0, 0.0))
    taken = without - with_
    assert float((trees.dot(taken, without) / trees.dot(without, without)).abs().max()) < 1e-10
    assert float(trees.norm(taken).min()) > 1e-6


def test_rsgs_can_adapt_normalisation_layers_alone() -> None:
    from dsgd.models import ResNet8

    torch.manual_seed(0)
    net = network(ResNet8().build((3, 8, 8), 10).double(), "cross_entropy")
    p = Params(torch.cat([leaf.detach().reshape(-1) for leaf in net.module.parameters()])[None], net.layout)
    objective = Batch(net, torch.randn(1, 4, 3, 8, 8, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.int64))
    g = estimated(everything(adapts="normalisation"), objective, p).grads
    assert all(bool(leaf.any()) == ("bn" in name or "downsample.1" in name) for name, leaf in g.items())
    mlp = Params(numbers((1.0, 2.0)), Layout(("0.weight",), ((1, 2),)))
    with pytest.raises(ValueError, match="the model has no normalisation layers"):
        Rsgs(adapts="normalisation").init(mlp)


# Against a library ---------------------------------------------------------------------------------------------------


def libraries(name: str, module: torch.nn.Module) -> Any:
    import pytorch_optimizer as po

    sgd: dict[str, Any] = {"base_optimizer": torch.optim.SGD, "lr": 0.1, "momentum": 0.9}
    if name == "sam":
        return po.SAM(module.parameters(), rho=0.05, **sgd)
    if name == "look_sam":
        return po.LookSAM(module.parameters(), rho=0.1, k=3, alpha=0.7, **sgd)
    base, constant = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9), SimpleNamespace(step=lambda: 0.05)
    return po.GSAM(module.parameters(), base, module, constant, alpha=0.4)


@pytest.mark.parametrize(
    ("name", "gradient"),
    [
        ("sam", Sam(0.05)),
        ("gsam", Gsam(0.05, 0.05, 0.4)),
        ("look_sam", LookSam(0.1, k=3, alpha=0.7, projection="tensor")),
    ],
)
def test_a_librarys_twenty_steps_are_ours(name: str, gradient: Gradient) -> None:
    """Those of pytorch-optimizer, which takes lengths in float32; its LookSAM adds 1e-8 to one of 0.001 or so."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    x, y = torch.randn(20, 8, 6, dtype=torch.float64), torch.randint(0, 3, (20, 8))
    net = network(deepcopy(module), "cross_entropy")
    p = Params(torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])[None], net.layout)
    optimizer, memory, moments = libraries(name, module), gradient.init(p), Sgd(0.9).init(p)
    for step in range(20):

        def closure(step: int = step) -> torch.Tensor:
            loss = cross_entropy(module(x[step]), y[step])
            loss.backward()
            return loss

        optimizer.zero_grad()
        if name == "gsam":
            optimizer.set_closure(cross_entropy, x[step], y[step])
            optimizer.step()
        else:
            closure()
            optimizer.step(closure)
        found = estimated(gradient, Batch(net, x[step][None], y[step][None]), p, memory, When(step, 0.1))
        memory = found.memory
        update, moments = Sgd(0.9).update(found.grads, moments, p, 0.1)
        p = p + update
    theirs = torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])
    near = 2e-6 if name == "look_sam" else 1e-7
    torch.testing.assert_close(p.matrix[0], theirs, rtol=near, atol=near)
