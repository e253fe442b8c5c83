"""The gain of a global merging against losses that are known, and against what the metrics of its parts say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dsgd.backends import train
from dsgd.data import Digits, Dirichlet, NoData, Shards
from dsgd.learning_rates import Constant
from dsgd.loop import Result
from dsgd.metrics import Accuracy, Equivalence, Merging, Snapshot
from dsgd.models import Quadratic
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

Make = Callable[..., Run]
ON_BOTH = tuple(f"merging_gain_{quantity}_{split}" for quantity in ("accuracy", "loss") for split in ("test", "train"))


@pytest.fixture
def snapshot(small: Make, snapshot_of: Callable[[Run], Snapshot]) -> Callable[..., Snapshot]:
    """The ensemble that a small run ends with."""
    return lambda **fields: snapshot_of(small(**fields))


def test_on_a_quadratic_the_gain_is_half_the_trace_of_h_xi() -> None:
    h = (0.1, 1.0, 3.0)
    run = Run(
        task=Task(NoData()),
        model=Quadratic(30, h),
        topology=Static(Topology("path", 5)),
        learning_rate=Constant(0.2),
        batch_size="full",
        gradient_noise=1.0,
        steps=20,
        dtype="float64",
        measure_every=5,
        metrics=(Merging(),),
    )
    found: Result = train(run, device="cpu")
    deviations = found.params["w"] - found.params["w"].mean(dim=0)
    half_trace = float((torch.tensor(h * 10, dtype=torch.float64) * deviations.square()).sum() / 5 / 2)
    assert half_trace > 1e-3
    assert found.history[-1]["merging_gain_loss_test"] == pytest.approx(half_trace, rel=1e-12)
    assert found.history[-1]["merging_gain_loss_train"] == pytest.approx(half_trace, rel=1e-12)
    assert found.history[-1]["merging_gain_accuracy_test"] is None


def test_equal_replicas_gain_nothing(small: Make) -> None:
    run = small(task=Task(Digits(train_size=64), Shards()), metrics=(Merging(),), steps=2)
    start, end = (train(run, device="cpu").history[i] for i in (0, -1))
    names = {*ON_BOTH, "merging_gain_accuracy_shards", "merging_gain_loss_shards"}
    assert {start[name] for name in names} == {0.0}
    assert end["merging_gain_loss_shards"] != 0.0


def test_it_is_what_accuracy_says_of_the_mean_model_and_the_replicas(small: Make) -> None:
    row = train(small(metrics=(Accuracy(32), Merging(32)), steps=40), device="cpu").history[-1]
    for split in ("test", "train"):
        mean, replicas = (row[f"{split}_loss_{whose}"] for whose in ("mean_model", "replicas_mean"))
        assert row[f"merging_gain_loss_{split}"] == pytest.approx(replicas - mean, rel=1e-9)  # type: ignore[operator]
        mean, replicas = (row[f"{split}_accuracy_{whose}"] for whose in ("mean_model", "replicas_mean"))
        assert row[f"merging_gain_accuracy_{split}"] == pytest.approx(mean - replicas, abs=1e-12)  # type: ignore[operator]
        assert mean != replicas


def test_on_shards_each_replica_is_compared_on_its_own_examples(snapshot: Callable[..., Snapshot]) -> None:
    found = snapshot(task=Task(Digits(), Dirichlet(0.1)), steps=30)
    values, network = Merging()(found), found.network
    assert found.shards is not None
    assert len({len(shard) for shard in found.shards}) > 1
    mean, losses, hits = found.params.matrix.mean(dim=0), [], []
    for row, shard in zip(found.params.matrix, found.shards, strict=True):
        x, y = found.train.x[shard], found.train.y[shard]
        losses.append(network.losses(row, x, y).mean() - network.losses(mean, x, y).mean())
        right = [(network.logits(w, x).argmax(dim=1) == y).double().mean() for w in (mean, row)]
        hits.append(right[0] - right[1])
    assert values["merging_gain_loss_shards"] == pytest.approx(float(sum(losses)) / 4, rel=1e-9)
    assert values["merging_gain_accuracy_shards"] == pytest.approx(float(sum(hits)) / 4, abs=1e-12)
    assert values["merging_gain_loss_shards"] < 0 < values["merging_gain_loss_train"]  # type: ignore[operator]


def test_the_order_of_the_replicas_does_not_matter(snapshot: Callable[..., Snapshot]) -> None:
    found = snapshot(task=Task(Digits(), Dirichlet(0.1)))
    order = [2, 0, 3, 1]
    assert found.shards is not None
    moved = replace(
        found, params=found.params.like(found.params.matrix[order]), shards=tuple(found.shards[j] for j in order)
    )
    assert Merging()(moved) == pytest.approx(Merging()(found), rel=1e-9)


def test_the_gain_in_loss_is_half_the_trace_of_h_xi_up_to_third_order(snapshot: Callable[..., Snapshot]) -> None:
    found = snapshot(steps=40)
    mean = found.params.matrix.mean(dim=0)

    def error(s: float) -> float:
        scaled = replace(found, params=found.params.like(mean + s * (found.params.matrix - mean)))
        half_trace = Equivalence(64).instrument(scaled).half_trace_h_xi
        return float(Merging()(scaled)["merging_gain_loss_train"]) / half_trace - 1  # type: ignore[arg-type]

    assert error(1 / 64) / error(1 / 32) == pytest.approx(0.5, abs=0.05)
    assert abs(error(1 / 64)) < 0.01


@pytest.mark.parametrize(
    ("knobs", "message"), [({"train_examples": 0}, "train_examples is 0"), ({"every": -1}, "every is -1")]
)
def test_impossible_knobs_are_refused(knobs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Merging(**knobs)
