"""Runs trained as one ensemble have the numbers that they have alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.backends.local import LocalBackend
from dsgd.data import Digits, River, Shards
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.learning_rates import Constant, Cosine
from dsgd.metrics import Accuracy, Consensus
from dsgd.models import Mlp, SimBn
from dsgd.optimizers import AdamW, Sgd
from dsgd.packs import Pack, packs, simulate_pack
from dsgd.run import Run
from dsgd.tasks import Task
from tests.rows import near
from tests.test_gossip import EXAMPLES, Halfway
from topologies import OnePeerExponential, Permuted, RandomMatching, Static, Topology

Make = Callable[..., Run]
CPU = LocalBackend("cpu")
TOPOLOGIES: tuple[Any, ...] = (
    Static(Topology("ring", 4)),
    Static(Topology("complete", 4)),
    OnePeerExponential(4),
    RandomMatching(Topology("ring", 4), seed=1),
    Permuted(Topology("path", 4), seed=1),
)


def assert_as_alone(runs: list[Run]) -> None:
    found = CPU.train_pack(runs, [()] * len(runs))
    for run, together in zip(runs, found, strict=True):
        alone = CPU.train(run)
        assert not isinstance(together, FloatingPointError)
        for name, leaf in alone.params.items():
            torch.testing.assert_close(together.params[name], leaf, rtol=1e-10, atol=1e-12)
        for row, expected in zip(together.history, alone.history, strict=True):
            assert row == near(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, kind in GRADIENTS.items() if getattr(kind, "row_wise", False)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_numbers_are_those_of_the_run_alone(small: Make, algorithm: str, name: str) -> None:
    parts: dict[str, Any] = {"algorithm": algorithm, "gradient": GRADIENTS[name](), "optimizer": Sgd(momentum=0.9)}
    assert_as_alone([small(topology=topology, seed=seed, **parts) for seed, topology in enumerate(TOPOLOGIES)])


@pytest.mark.parametrize(
    "parts",
    [
        {"task": Task(Digits(train_size=64), Shards())},
        {"batch_size": "full", "gradient_noise": 0.5},
        {"optimizer": AdamW(), "learning_rate": Constant(0.01)},
        {"local_steps": 3, "metrics": (Consensus(), Accuracy()), "measure_every": 7},
        {"local_steps": 99, "starts": "own"},
    ],
    ids=["shards", "full batches and noise", "adamw", "local steps", "deep ensembles"],
)
def test_whatever_else_the_runs_share(small: Make, parts: dict[str, Any]) -> None:
    assert_as_alone([small(seed=seed, **parts) for seed in range(3)])


@pytest.mark.parametrize("name", GOSSIPS)
@pytest.mark.parametrize("algorithm", ["consensus", "adapt_then_combine", "combine_then_adapt"])
def test_each_run_of_a_pack_has_the_rounds_that_it_needs(small: Make, algorithm: str, name: str) -> None:
    """Which its bytes show."""
    parts: dict[str, Any] = {"algorithm": algorithm, "gossip": EXAMPLES[name], "learning_rate": Cosine(0.2)}
    runs = [small(topology=topology, seed=seed, **parts) for seed, topology in enumerate(TOPOLOGIES)]
    assert packs(runs) == [[0, 1, 2, 3, 4]]
    assert_as_alone(runs)


def test_a_packs_runs_need_different_rounds_of_which_they_keep_a_share(small: Make) -> None:
    runs = [small(topology=topology, gossip=Halfway(1e-4), measure_every=1) for topology in TOPOLOGIES]
    assert_as_alone(runs)
    found = CPU.train_pack(runs, [()] * len(runs))
    sent = {result.history[-1]["bytes_sent"] for result in found if not isinstance(result, FloatingPointError)}
    assert len(sent) > 2


def test_a_larger_pack_mixes_along_the_edges(small: Make) -> None:
    """Where the blocks are too large for a dense product."""
    runs = [
        small(model=Mlp((64,)), topology=Static(Topology("ring", 24)), batch_size=2, seed=seed) for seed in range(4)
    ]
    assert_as_alone(runs)


def test_a_run_that_diverges_leaves_the_others_alone(small: Make) -> None:
    """Learning rate and model are one pack's, so one run is made to diverge by its start."""
    runs = [small(seed=seed) for seed in range(3)]
    pack = Pack(runs, torch.device("cpu"))
    start = pack.simulations[1].start

    def broken() -> Any:
        world = start()
        world.ensemble.params.matrix[2, 5] = torch.nan
        return world

    pack.simulations[1].start = broken  # type: ignore[method-assign]
    first, second, third = simulate_pack(pack, [()] * 3)
    assert isinstance(second, FloatingPointError)
    assert "the first is replica 2" in str(second)
    for run, found in ((runs[0], first), (runs[2], third)):
        assert not isinstance(found, FloatingPointError)
        for name, leaf in CPU.train(run).params.items():
            torch.testing.assert_close(found.params[name], leaf, rtol=1e-10, atol=1e-12)


def test_each_runs_observers_see_what_it_measures(small: Make) -> None:
    class Seen:
        def __init__(self) -> None:
            self.rows: list[Any] = []
            self.steps: list[int] = []
            self.snapshots: list[Any] = []

        def stepped(self, step: int) -> None:
            self.steps.append(step)

        def measured(self, row: Any) -> None:
            self.rows.append(row)

        def snapshotted(self, step: int, params: Any) -> None:
            self.snapshots.append((step, params["1.weight"].shape))

        def event(self, event: str, **details: object) -> None:
            raise AssertionError(event)

    seen = [Seen(), Seen()]
    results = CPU.train_pack([small(seed=seed, snapshot_every=10) for seed in range(2)], [(one,) for one in seen])
    for one, result in zip(seen, results, strict=True):
        assert one.rows == result.history  # type: ignore[union-attr]
        assert one.steps == list(range(1, 21))
        assert one.snapshots == [(step, (4, 8, 64)) for step in (0, 10, 20)]
    assert seen[0].rows != seen[1].rows


def test_only_runs_alike_but_for_seed_and_graph_go_together(small: Make) -> None:
    runs = [
        *(small(seed=seed) for seed in range(3)),
        small("complete", seed=9),
        small(steps=21),
        small(n=5),
        *(small(gradient=WeightDiversity(), seed=seed) for seed in range(2)),
        *(small(twins=(WeightDiversity(),), seed=seed) for seed in range(2)),
    ]
    assert packs(runs) == [[0, 1, 2, 3], [4], [5], [6], [7], [8], [9]]


def test_nets_that_normalise_by_their_data_go_together_where_that_is_one(small: Make) -> None:
    """Under cross-entropy nothing keeps the inputs of several draws apart; in closed form they are."""
    assert_as_alone([small(model=SimBn(3), seed=seed) for seed in (1, 2)])
    draws = [small(model=SimBn(3), task=Task(River("sea", 64, 32, split=k)), seed=k) for k in (1, 2)]
    pytest.importorskip("river")
    assert packs(draws) == [[0], [1]]


def test_large_runs_stay_alone(small: Make) -> None:
    runs = [small(model=Mlp((2000,)), n=32, seed=seed) for seed in range(3)]
    assert packs(runs) == [[0], [1], [2]]


@dataclass(frozen=True)
class Wrapped:
    """A user's gradient around one that asks for the replicas' covariance."""

    inner: WeightDiversity = field(default_factory=WeightDiversity)

    def init(self, p: Any) -> Any:
        return self.inner.init(p)

    def estimate(self, *asked: Any) -> Any:
        return self.inner.estimate(*asked)


def test_gradients_that_do_not_say_that_they_are_row_wise_stay_alone(small: Make) -> None:
    assert packs([small(gradient=Wrapped(), seed=seed) for seed in range(2)]) == [[0], [1]]
    with pytest.raises(ValueError, match="needs the ensemble's replicas, and was given none"):
        CPU.train_pack([small(gradient=Wrapped(), seed=seed) for seed in range(2)], [()] * 2)


def test_parts_that_do_not_hash_go_together_all_the_same(small: Make) -> None:
    assert packs([small(model=Mlp([8]), seed=seed) for seed in range(2)]) == [[0, 1]]  # type: ignore[arg-type]


def test_a_packs_runs_share_their_examples(small: Make) -> None:
    first, second = Pack([small(seed=seed) for seed in range(2)], torch.device("cpu")).simulations
    assert first.train.x.data_ptr() == second.train.x.data_ptr()
