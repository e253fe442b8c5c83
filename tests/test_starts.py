"""Replicas at one start or each at its own, wherever they are held; with no gossip their own are a deep ensemble."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd.backends.local import LocalBackend
from dsgd.communicators import Local
from dsgd.data import Shards
from dsgd.gradients.plain import Plain
from dsgd.models import Mlp, ResNet18
from dsgd.randomness import stream_key
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task

Make = Callable[..., Run]
CPU = torch.device("cpu")


class Some(Local):
    """A place that holds some of n replicas."""

    def __init__(self, n: int, rows: tuple[int, ...]) -> None:
        super().__init__(n)
        self.rows = rows


def start(run: Run, rows: tuple[int, ...] | None = None) -> torch.Tensor:
    place = Local(run.n) if rows is None else Some(run.n, rows)
    return Simulation(run, place, CPU).start().ensemble.params.matrix


def final(run: Run) -> torch.Tensor:
    return torch.cat([leaf.flatten(1) for leaf in LocalBackend("cpu").train(run).params.values()], dim=1)


def test_own_starts_are_the_model_drawn_with_the_replicas_key(small: Make) -> None:
    run = small(n=5, starts="own", seed=3)
    rows = []
    for replica in range(5):
        torch.manual_seed(stream_key(3, "start", replica))
        module = run.model.build((1, 8, 8), 10)
        rows.append(torch.cat([leaf.detach().flatten() for leaf in module.parameters()]).double())
    assert torch.equal(start(run), torch.stack(rows))
    assert min(float((a - b).norm()) for i, a in enumerate(rows) for b in rows[:i]) > 0.1


def test_they_do_not_depend_on_where_the_replicas_are_held(small: Make) -> None:
    run = small(n=6, starts="own")
    whole = start(run)
    for rows in ((0,), (4, 1), (2, 3, 5)):
        assert torch.equal(start(run, rows), whole[list(rows)])


def test_by_default_all_have_the_start_of_the_seed_and_twins_have_it_either_way(small: Make) -> None:
    same, own = small(twins=(Plain(),)), small(twins=(Plain(),), starts="own")
    assert same.starts == "same"
    rows = start(same)
    assert torch.equal(rows, rows[:1].expand_as(rows))
    for run in (same, own):
        (twin,) = Simulation(run, Local(run.n), CPU).start().twins.values()
        assert torch.equal(twin.params.matrix, rows[:1])
    assert not any(torch.equal(row, rows[0]) for row in start(own))


def test_torchs_own_generator_is_left_as_it_was(small: Make) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    start(small(starts="own"))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_gossip_each_replica_is_trained_from_its_own_start_alone(small: Make) -> None:
    """By hand, on its own mini-batches."""
    run = small(starts="own", steps=10, local_steps=11, task=Task(small().task.data, Shards()))
    simulation = Simulation(run, Local(run.n), CPU)
    w = start(run).clone()
    for step in range(10):
        _, grads = simulation.objective(step).loss_and_grad(simulation.start().ensemble.params.like(w))
        w -= 0.1 * grads.matrix
    torch.testing.assert_close(final(run), w, rtol=1e-10, atol=1e-12)


def test_with_gossip_the_first_step_starts_from_all_of_them(small: Make) -> None:
    run = small(graph="complete", starts="own", steps=1, algorithm="adapt_then_combine")
    simulation = Simulation(run, Local(run.n), CPU)
    w = simulation.start().ensemble.params
    _, grads = simulation.objective(0).loss_and_grad(w)
    expected = (w.matrix - 0.1 * grads.matrix).mean(dim=0, keepdim=True)
    torch.testing.assert_close(final(run), expected.expand(4, -1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"starts": "apart"}, "starts is apart; allowed are same, own"),
        ({"starts": "own", "algorithm": "centralized"}, "starts is own and algorithm centralized, .* take adapt_then"),
    ],
)
def test_starts_that_make_no_sense_are_refused(small: Make, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        small(**wrong)


def test_a_start_from_a_file_is_no_start_of_ones_own(small: Make, tmp_path: Path) -> None:
    model = ResNet18(weights=str(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match=r"starts is own, but the model starts from the file .*a\.safetensors; leave"):
        small(model=model, starts="own")
    assert small(model=Mlp((8,)), starts="own").starts == "own"
