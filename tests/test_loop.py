"""The loop against what anyone would write by hand, and against what is known of gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsgd.backends import train
from dsgd.communicators import Local
from dsgd.data import NoData
from dsgd.learning_rates import Constant, Multistep
from dsgd.loop import simulate
from dsgd.metrics import Accuracy, Consensus
from dsgd.models import Quadratic
from dsgd.optimizers import AdamW, Optimizer, Sgd
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from topologies import Static, Topology

Make = Callable[..., Run]
CPU = torch.device("cpu")

TORCH: dict[str, tuple[Optimizer, Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (Sgd(), lambda ps: torch.optim.SGD(ps, lr=0.1)),
    "nesterov": (
        Sgd(momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adamw": (AdamW(weight_decay=0.1), lambda ps: torch.optim.AdamW(ps, lr=0.1, weight_decay=0.1)),
}


def by_hand(run: Run, optimizer_of: Callable[[Any], torch.optim.Optimizer]) -> torch.Tensor:
    """D-SGD as in the paper's code: a list of modules, each with an optimizer; parameters mixed, then stepped."""
    simulation = Simulation(run, Local(run.n), CPU)
    data = run.task.data.load()
    modules = [run.model.build(data.train.shape, data.classes).double() for _ in range(run.n)]
    for module in modules:
        module.load_state_dict(simulation.network.module.state_dict())
    optimizers = [optimizer_of(module.parameters()) for module in modules]
    w = torch.from_numpy(run.schedule(0).toarray())
    for step in range(run.steps):
        batch = simulation.feed.batch(step)
        for j, module in enumerate(modules):
            optimizers[j].zero_grad()
            cross_entropy(module(batch.x[j]), batch.y[j]).backward()
        with torch.no_grad():
            for leaves in zip(*(module.parameters() for module in modules), strict=True):
                mixed = torch.einsum("ij,j...->i...", w, torch.stack(leaves))
                for leaf, value in zip(leaves, mixed, strict=True):
                    leaf.copy_(value)
        for optimizer in optimizers:
            optimizer.step()
    return torch.stack([torch.cat([leaf.detach().flatten() for leaf in module.parameters()]) for module in modules])


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw"])
def test_it_is_the_loop_over_modules_and_torchs_optimizers(small: Make, name: str) -> None:
    """Weight decay of torch's optimizers acts on the mixed parameters, so it is compared without mixing."""
    optimizer, optimizer_of = TORCH[name]
    alone = name != "sgd"
    topology = Topology("ring", 4) if not alone else Topology("ring", 1)
    run = small(topology=Static(topology), optimizer=optimizer, learning_rate=Constant(0.1), steps=30)
    stacked = torch.cat([leaf.flatten(1) for leaf in train(run, device="cpu").params.values()], dim=1)
    torch.testing.assert_close(stacked, by_hand(run, optimizer_of), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("lr", "stable"), [(1.98, True), (2.02, False)])
def test_gradient_descent_is_stable_up_to_two_over_the_curvature(lr: float, stable: bool) -> None:
    """On the mode of curvature 1 each step multiplies by 1 - lr, whatever the graph does to the differences."""
    run = Run(
        task=Task(NoData()),
        model=Quadratic(dimension=5, curvature=(1.0, 1.0)),
        topology=Static(Topology("complete", 4)),
        algorithm="adapt_then_combine",
        learning_rate=Constant(lr),
        batch_size="full",
        steps=200,
        dtype="float64",
        metrics=(Consensus(),),
    )
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.start()
    ones = torch.ones(4, 5, dtype=torch.float64)
    world = replace(world, ensemble=world.ensemble.at(world.ensemble.params.like(ones)))
    while world.step < run.steps:
        world = simulation.advance(world)
    size = float(world.ensemble.params.matrix.abs().max())
    assert size == pytest.approx(abs(1 - lr) ** 200, rel=1e-9)
    assert (size < 1) == stable


def test_a_run_goes_on_from_any_of_its_worlds(small: Make) -> None:
    """To the last bit, with twins and momentum; what was due before is not measured again."""
    from dsgd.gradients.plain import Plain
    from dsgd.gradients.weight_diversity import WeightDiversity

    run = small(
        optimizer=Sgd(momentum=0.9),
        learning_rate=Multistep(lr=0.1, warmup=2, milestones=(0.5,)),
        twins=(WeightDiversity(), Plain()),
        gradient_noise=0.1,
        metrics=(Consensus(), Accuracy()),
        measure_every=4,
    )
    whole = simulate(Simulation(run, Local(4), CPU))
    simulation = Simulation(run, Local(4), CPU)
    world = simulation.start()
    while world.step < 8:
        world = simulation.advance(world)
    late = simulate(Simulation(run, Local(4), CPU), world=world)
    assert late.history == [row for row in whole.history if row["step"] > 8]
    for name, leaf in whole.params.items():
        assert torch.equal(leaf, late.params[name])


def test_a_graph_file_is_read_once_a_run(small: Make, tmp_path: Path) -> None:
    """What a run was keyed by is what it mixes with to the end."""
    graph = tmp_path / "graph.edgelist"
    graph.write_text("0 1\n1 2\n2 3\n3 0\n")
    simulation = Simulation(small(topology=Static(Topology(str(graph), 4))), Local(4), CPU)
    world = simulation.advance(simulation.start())
    graph.unlink()
    assert simulation.advance(world).step == 2


def test_the_consensus_distance_needs_no_second_ensemble() -> None:
    """The same by blocks of columns as at once."""
    from dsgd.metrics import consensus

    matrix = torch.randn(5, 1000)
    whole = float((matrix.double() - matrix.double().mean(dim=0)).square().sum() / 5)
    assert consensus.trace_xi(matrix) == pytest.approx(whole, rel=1e-12)
    consensus.NUMBERS_AT_ONCE, before = 35, consensus.NUMBERS_AT_ONCE
    try:
        assert consensus.trace_xi(matrix) == pytest.approx(whole, rel=1e-12)
    finally:
        consensus.NUMBERS_AT_ONCE = before


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {"consensus_distance": 1.0},
            "^metric Own returned the column consensus_distance, which is there already; give",
        ),
        ({"step": 3}, "^metric Own returned the column step, which is there already"),
        ({"bytes_sent": 3}, "^metric Own returned the column bytes_sent, which is there already"),
        ([1.0], "^metric Own returned a list; it must return a dict of numbers$"),
        ({"spread": {}}, "^metric Own returned dict for 'spread'; allowed are names, each with a number, a list"),
        ({3: 1.0}, "^metric Own returned float for 3; allowed are names, each with a number"),
    ],
)
def test_what_a_metric_of_ones_own_may_return(small: Make, found: Any, message: str) -> None:
    class Own:
        every = None

        def __call__(self, snapshot: Any) -> Any:
            return found

    with pytest.raises(ValueError, match=message):
        train(small(metrics=(Consensus(), Own()), steps=1))


def test_numbers_of_numpy_and_torch_are_numbers(small: Make) -> None:
    class Own:
        every = None

        def __call__(self, snapshot: Any) -> Any:
            return {"norm": snapshot.params.matrix.norm(), "many": [1.0, None], "said": "yes", "none": None}

    assert train(small(metrics=(Own(),), steps=1)).history[-1]["norm"] > 0
