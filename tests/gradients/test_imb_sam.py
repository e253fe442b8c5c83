"""ImbSAM: the heads' gradient, and the tails' where their loss is worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from dsgd import trees
from dsgd.communicators import Local
from dsgd.data import Digits, Iid, Partition
from dsgd.data.examples import Labels
from dsgd.data.partition import Indices
from dsgd.gradients.imb_sam import ImbSam
from dsgd.gradients.plain import Plain
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from tests.gradients.estimates import CPU, Make, estimated, imbalanced, numbers


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


def test_without_a_radius_the_tails_loss_is_weighted_and_no_more() -> None:
    """The control of re-weighting: SGD on L_head + c L_tail."""
    labels = (0, 1, 2, 0, 2)
    objective, p = imbalanced(*labels)
    weighted = objective.loss_and_grad(p, numbers([3.0 if label == 0 else 1.0 for label in labels]) / 5)[1]
    found = estimated(ImbSam(0, eta=20, tail_weight=3), objective, p).grads
    torch.testing.assert_close(found.matrix, weighted.matrix, rtol=1e-12, atol=1e-14)


@dataclass(frozen=True)
class Copies:
    """Every replica has the same examples of its own: the first `size`."""

    size: int

    def shards(self, y: Labels, n: int, seed: int) -> tuple[Indices, ...]:
        return (np.arange(self.size),) * n


@pytest.mark.parametrize("partition", [Iid(), Copies(64)], ids=repr)
def test_where_all_have_the_same_examples_local_counts_are_the_global_ones(small: Make, partition: Partition) -> None:
    run = small(task=Task(Digits(train_size=64), partition), batch_size=16)
    simulation = Simulation(run, Local(4), CPU)
    objective, p = simulation.objective(0), simulation.start().ensemble.params
    counts = objective.class_counts("global")
    assert torch.equal(objective.class_counts("local").expand(4, -1), counts.expand(4, -1))
    for eta in (int(counts.median()) + 1, 100):
        one, other = (estimated(ImbSam(0.2, eta, counts=of), objective, p) for of in ("global", "local"))
        assert torch.equal(one.grads.matrix, other.grads.matrix)
        assert float(one.gauges["tail"].max()) > 0


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
