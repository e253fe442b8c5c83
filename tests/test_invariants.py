"""Laws that hold whatever the numbers: they are tested before any golden value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dsgd
import topologies
from dsgd.algorithms import ALGORITHMS
from dsgd.backends import train
from dsgd.communicators import Local
from dsgd.data import NoData, Shards
from dsgd.gossip import Repeated
from dsgd.gradients import GRADIENTS
from dsgd.gradients.average_direction import AverageDirection
from dsgd.gradients.plain import Plain
from dsgd.gradients.random_direction import RandomDirection
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.metrics import Accuracy, Drift
from dsgd.models import Mlp, Quadratic
from dsgd.optimizers import OPTIMIZERS, AdamW, Sgd
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from dsgd.trees import Layout, Params
from topologies import OnePeerExponential, Periodic, Permuted, RandomMatching, Static, Topology

Make = Callable[..., Run]

SCHEDULES = {
    "static": Static(Topology("ring", 4)),
    "one_peer_exponential": OnePeerExponential(4),
    "random_matching": RandomMatching(Topology("ring", 4), seed=1),
    "permuted": Permuted(Topology("path", 4), seed=1),
    "periodic": Periodic(Static(Topology("ring", 4)), every=3),
}


def final(run: Run) -> torch.Tensor:
    """The last ensemble as one matrix (n, d)."""
    return torch.cat([leaf.flatten(1) for leaf in train(run, device="cpu").params.values()], dim=1)


def test_every_schedule_is_covered() -> None:
    assert set(SCHEDULES) == set(topologies.SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_learns_on_every_schedule(small: Make, algorithm: str, schedule: str) -> None:
    from dsgd.metrics import Accuracy

    run = small(topology=SCHEDULES[schedule], algorithm=algorithm, steps=40, metrics=(Accuracy(),))
    history = train(run, device="cpu").history
    assert history[-1]["train_loss_mean_model"] < 0.97 * history[0]["train_loss_mean_model"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_replica_is_plain_sgd(small: Make, algorithm: str, optimizer: str) -> None:
    run = small(n=1, algorithm=algorithm, optimizer=OPTIMIZERS[optimizer]())
    torch.testing.assert_close(final(run), final(replace(run, algorithm="consensus")), rtol=1e-10, atol=1e-12)


def test_no_mixing_is_n_independent_runs(small: Make) -> None:
    never = Periodic(Static(Topology("ring", 4)), every=1000)
    ensemble = final(small(topology=never, task=Task(partition=Shards())))
    together = final(small(topology=never, task=Task(partition=Shards()), algorithm="combine_then_adapt"))
    torch.testing.assert_close(ensemble, together, rtol=1e-12, atol=1e-12)
    assert float((ensemble[0] - ensemble[1]).norm()) > 1e-3


@pytest.mark.parametrize("optimizer", [Sgd(momentum=0.9, weight_decay=0.01), Sgd(momentum=0.9, nesterov=True)])
def test_adapt_then_combine_on_the_complete_graph_is_centralized_sgd(small: Make, optimizer: Sgd) -> None:
    run = small(graph="complete", optimizer=optimizer, algorithm="centralized", steps=50)
    centre = final(run)
    mixed = final(replace(run, algorithm="adapt_then_combine"))
    assert float((mixed - centre).abs().max()) < 1e-6 * float(centre.abs().max())
    assert float((final(replace(run, algorithm="consensus")) - centre).abs().max()) > 1e-3


def test_adapt_then_combine_in_float32_is_centralized_sgd_to_1e_6(small: Make) -> None:
    run = small(graph="complete", optimizer=Sgd(momentum=0.9), algorithm="centralized", dtype="float32", steps=20)
    centre, mixed = final(run), final(replace(run, algorithm="adapt_then_combine"))
    assert float((mixed - centre).abs().max()) < 1e-6


def test_the_centralized_twin_is_the_centralized_run(small: Make) -> None:
    """The twin beside a centralized ensemble follows the same single trajectory."""
    run = small(algorithm="centralized", optimizer=Sgd(momentum=0.9), twins=(Plain(),))
    assert train(run, device="cpu").history[-1]["centralized_distance"] < 1e-12


def test_identical_data_keep_the_replicas_equal(small: Make) -> None:
    run = small(batch_size="full", optimizer=AdamW(), graph="star", n=5)
    assert train(run, device="cpu").history[-1]["consensus_distance"] < 1e-12


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    graph=st.sampled_from(sorted(topologies.GRAPHS)),
    n=st.sampled_from([4, 8, 16]),
    step=st.integers(0, 50),
    kind=st.sampled_from([Static, Permuted, RandomMatching]),
)
def test_mixing_keeps_the_mean_and_never_adds_distance(graph: str, n: int, step: int, kind: Any) -> None:
    try:
        schedule = kind(Topology(graph, n))
        w = schedule(step)
    except ValueError:  # this graph does not exist at this n, or has no undirected edges to match
        return
    p = Params(torch.randn(n, 7, dtype=torch.float64), Layout(("w",), ((7,),)))
    mixed = Local(n).mix(p, w).matrix
    torch.testing.assert_close(mixed.mean(dim=0), p.matrix.mean(dim=0))
    assert float(mixed.var(dim=0).sum()) <= float(p.matrix.var(dim=0).sum()) * (1 + 1e-12)
    torch.testing.assert_close(mixed, torch.from_numpy(topologies_dense(w)) @ p.matrix)


def topologies_dense(w: Any) -> Any:
    return w.sparse().toarray()


@pytest.mark.parametrize(
    "gradient",
    [RandomDirection(rho=0.0), AverageDirection(rho=0.0, samples=3), WeightDiversity(samples=0), WeightDiversity()],
)
def test_switched_off_every_method_is_the_plain_gradient(small: Make, gradient: Any) -> None:
    """rho = 0; and with one replica there is no diversity of weights."""
    n = 1 if isinstance(gradient, WeightDiversity) else 4
    torch.testing.assert_close(final(small(n=n, gradient=gradient)), final(small(n=n)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, kind in GRADIENTS.items() if not getattr(kind, "classifies", False)])
def test_every_method_descends_a_quadratic(name: str) -> None:
    run = Run(
        task=Task(NoData()),
        model=Quadratic(dimension=20, curvature=(0.5, 1.0)),
        topology=Static(Topology("ring", 4)),
        gradient=GRADIENTS[name](),
        batch_size="full",
        gradient_noise=0.01,
        steps=100,
        dtype="float64",
    )
    simulation = Simulation(run, Local(4), torch.device("cpu"))
    world = simulation.start()
    world = replace(world, ensemble=world.ensemble.at(world.ensemble.params.like(torch.ones(4, 20).double())))
    for _ in range(run.steps):
        world = simulation.advance(world)
    assert float(world.ensemble.params.matrix.norm(dim=1).max()) < 0.5


@pytest.mark.parametrize("name", [name for name, kind in GRADIENTS.items() if getattr(kind, "classifies", False)])
def test_a_method_that_needs_classes_is_refused_a_quadratic(name: str) -> None:
    model, task = Quadratic(dimension=2, curvature=(1.0, 1.0)), Task(NoData())
    with pytest.raises(ValueError, match="needs labels and an output for each class, which task no_data lacks"):
        train(Run(task=task, model=model, gradient=GRADIENTS[name](), batch_size="full"), device="cpu")


@pytest.mark.parametrize("name", GRADIENTS)
def test_the_stacked_estimate_is_each_replicas_own(small: Make, name: str) -> None:
    """One call for four replicas gives the rows of four calls for one."""
    run = small(gradient=GRADIENTS[name]())
    simulation = Simulation(run, Local(4), torch.device("cpu"))
    world = simulation.start()
    for _ in range(3):
        world = simulation.advance(world)
    p, batch = world.ensemble.params, simulation.feed.batch(3)
    noise = simulation.noise(3, p)
    stacked = _estimate(run, simulation, batch, p, noise)
    for j in range(4):
        own = replace(batch, x=batch.x[j : j + 1], y=batch.y[j : j + 1])
        alone = _estimate(run, simulation, own, p.like(p.matrix[j : j + 1]), replace(noise, rows=(noise.rows[j],)))
        torch.testing.assert_close(alone.matrix[0], stacked.matrix[j], rtol=1e-10, atol=1e-12)


def _estimate(run: Run, simulation: Simulation, objective: Any, p: Params, noise: Any) -> Params:
    from dsgd.state import When

    return run.gradient.estimate(objective, p, noise, run.gradient.init(p), When(3, 0.1)).grads


def test_a_steps_draws_do_not_depend_on_earlier_steps(small: Make) -> None:
    """Steps 5 to 9 from a saved state are the steps of the whole run: nothing sequential is hidden in between."""
    run = small(gradient=AverageDirection(), gradient_noise=0.1)
    whole, late = (Simulation(run, Local(4), torch.device("cpu")) for _ in range(2))
    world = whole.start()
    for _ in range(5):
        world = whole.advance(world)
    again = world
    for _ in range(5, 10):
        world = whole.advance(world)
        again = late.advance(again)
    assert torch.equal(world.ensemble.params.matrix, again.ensemble.params.matrix)


def test_the_start_does_not_depend_on_torchs_global_generator(small: Make) -> None:
    first = final(small(steps=1))
    torch.manual_seed(99)
    assert torch.equal(first, final(small(steps=1)))
    assert not torch.equal(first, final(small(steps=1, seed=1)))


def test_local_steps_is_gossip_every_k_steps(small: Make) -> None:
    ring = Static(Topology("ring", 4))
    assert torch.equal(final(small(local_steps=3)), final(small(topology=Periodic(ring, every=3))))


def test_bytes_follow_the_sparsity_of_w(small: Make) -> None:
    run = small(steps=10)
    d = final(run).shape[1]
    assert train(run).history[-1]["bytes_sent"] == 10 * 8 * d * 8  # a ring of four sends 8 models of d float64
    assert train(replace(run, local_steps=5)).history[-1]["bytes_sent"] == 2 * 8 * d * 8
    assert train(replace(run, gossip=Repeated(3))).history[-1]["bytes_sent"] == 30 * 8 * d * 8
    assert train(replace(run, algorithm="centralized")).history[-1]["bytes_sent"] == 10 * 6 * d * 8


def test_divergence_is_named(small: Make) -> None:
    from dsgd.learning_rates import Constant

    run = small(learning_rate=Constant(1e100), model=Mlp((8,), "relu"), steps=20)
    with pytest.raises(FloatingPointError, match=r"not finite after \d+ steps.*lower learning_rate.lr"):
        dsgd.train(run)


def test_divergence_is_named_though_nothing_is_measured(small: Make) -> None:
    from dsgd.learning_rates import Constant

    with pytest.raises(FloatingPointError, match="not finite after 2 steps"):
        dsgd.train(small(learning_rate=Constant(1e100), model=Mlp((8,), "relu"), metrics=()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topology": Topology("ring", 4)}, r"topology is a Topology; .* wrap a graph: Static\(Topology\(\.\.\.\)\)"),
        ({"topology": "ring"}, r"topology is 'ring'; .* wrap a graph"),
        ({"gradient": "plain"}, r"gradient is 'plain'; pass an object such as Plain\(\); names go to dsgd.load_config"),
        ({"task": "digits"}, r"task is 'digits'; pass an object such as Task\(\)"),
        ({"algorithm": "gossip"}, "algorithm is gossip; allowed are consensus"),
        ({"dtype": "float16"}, "dtype is float16; allowed are float32, float64"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"batch_size": "half"}, "batch_size is half"),
        ({"gradient_noise": -1}, "gradient_noise is -1"),
        ({"algorithm": "centralized", "local_steps": 2}, "local_steps is above 1"),
        ({"algorithm": "centralized", "gossip": Repeated(2)}, "gossip is repeated and algorithm centralized"),
        ({"gossip": "once"}, r"gossip is 'once'; pass an object such as Once\(\)"),
        ({"twins": (Plain(), Plain())}, "names one twin twice"),
        ({"twins": (AverageDirection(),)}, "is not a twin's method"),
        ({"metrics": ("accuracy",)}, r"metrics has 'accuracy'; pass objects such as Accuracy\(\)"),
        ({"learning_rate": 0.1}, r"^learning_rate is 0.1; pass an object such as Constant\(\), which has at$"),
        ({"model": torch.nn.Linear(64, 10)}, r"^model is of type Linear; pass .* Mlp\(\), which has build and smooth$"),
        ({"optimizer": Sgd}, r"^optimizer is the class Sgd; pass an object such as Sgd\(\)$"),
        ({"loss": 0}, r"^loss is 0; pass an object such as OfTask\(\), which has __call__$"),
        ({"gossip": None}, r"^gossip is None; pass an object such as Once\(\), which has plan$"),
        ({"topology": 4}, "^topology is 4; pass an object such as Static"),
        (
            {"metrics": Accuracy()},
            r"^metrics is of type Accuracy; it must be a tuple of objects, such as \(Accuracy\(\),\)$",
        ),
        ({"metrics": (Accuracy,)}, r"^metrics has the class Accuracy; pass objects such as Accuracy\(\)$"),
        ({"twins": (3,)}, r"^twins has 3; pass objects such as Plain\(\), which has init and estimate$"),
        ({"metrics": (Accuracy(), Accuracy(every=2))}, "accuracy twice, whose columns .* same names; leave one out"),
        ({"metrics": (Drift(), Drift(rho=1.0))}, "drift twice, .* give them another label each, or leave one out"),
    ],
)
def test_impossible_runs_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run(**fields)
