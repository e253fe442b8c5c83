"""A start that was trained before the run: what it is, that it is the same everywhere, and part of the run's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsgd.backends.local import LocalBackend
from dsgd.communicators import Local
from dsgd.data import Digits, Text
from dsgd.data.sampling import reshuffled_passes
from dsgd.fingerprint import data_digest, key
from dsgd.metrics import Accuracy
from dsgd.models import Mlp, SimBn
from dsgd.packs import packs
from dsgd.pretraining import Pretrained, Scratch, _trained
from dsgd.randomness import stream_key
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from dsgd.threads import torch_threads

Make = Callable[..., Run]
BEFORE = Pretrained(Digits(), steps=30, batch_size=8)


def start(run: Run) -> torch.Tensor:
    return Simulation(run, Local(run.n), torch.device("cpu")).start().ensemble.params.matrix


def by_hand(run: Run, steps: int, *whose: int) -> torch.Tensor:
    """Adam written out, on the mini-batches of the run's seed."""
    torch.manual_seed(stream_key(run.seed, "start", *whose))
    module, train = run.model.build((1, 8, 8), 10), Digits().load().train
    order = reshuffled_passes(len(train), 0, steps * 8, run.seed, "pretraining", *whose).reshape(steps, 8)
    leaves = list(module.parameters())
    first, second = ([torch.zeros_like(leaf) for leaf in leaves] for _ in range(2))
    for t, batch in enumerate(order, start=1):
        loss = cross_entropy(module(torch.from_numpy(train.x[batch])), torch.from_numpy(train.y[batch]))
        for leaf, m, v, g in zip(leaves, first, second, torch.autograd.grad(loss, leaves), strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.99).add_(0.01 * g * g)
            with torch.no_grad():
                leaf.sub_(1e-3 * m / (1 - 0.9**t) / ((v / (1 - 0.99**t)).sqrt() + 1e-8))
    return torch.cat([leaf.detach().flatten() for leaf in leaves])


def test_it_is_adam_from_the_random_start(small: Make) -> None:
    run = small(pretraining=BEFORE, seed=3, dtype="float32")
    for row in start(run):
        torch.testing.assert_close(row, by_hand(run, 30), rtol=1e-4, atol=1e-6)


def test_replicas_with_starts_of_their_own_are_each_trained_alone(small: Make) -> None:
    run = small(n=3, pretraining=BEFORE, starts="own", dtype="float32")
    for j, row in enumerate(start(run)):
        torch.testing.assert_close(row, by_hand(run, 30, j), rtol=1e-4, atol=1e-6)


def test_it_is_the_same_however_many_threads_there_are(small: Make) -> None:
    run, found = small(pretraining=replace(BEFORE, data=Digits(train_size=1000)), model=Mlp((300,))), []
    for threads in (1, 2):
        _trained.cache_clear()
        with torch_threads(threads):
            found.append(start(run))
    assert torch.equal(*found)


def test_it_lowers_the_loss_with_which_the_run_begins(small: Make) -> None:
    losses = [
        LocalBackend("cpu").train(small(metrics=(Accuracy(),), **given)).history[0]["train_loss_mean_model"]
        for given in ({}, {"pretraining": replace(BEFORE, steps=300, lr=1e-2)})
    ]
    assert float(losses[1]) < 0.5 * float(losses[0])  # type: ignore[arg-type]  # numbers


def test_a_pack_trains_what_a_run_trains_alone(small: Make) -> None:
    runs = [small(pretraining=BEFORE, seed=seed) for seed in (1, 2)]
    assert packs(runs) == [[0, 1]]
    backend = LocalBackend("cpu")
    for run, found in zip(runs, backend.train_pack(runs, [(), ()]), strict=True):
        alone = backend.train(run)
        assert not isinstance(found, Exception)
        for name, leaf in alone.params.items():
            torch.testing.assert_close(found.params[name], leaf, rtol=1e-10, atol=1e-12)


def test_its_data_and_knobs_are_part_of_the_key(small: Make) -> None:
    runs: list[Any] = [small(pretraining=BEFORE), small(), small(pretraining=replace(BEFORE, lr=2e-3))]
    assert len(set(map(key, runs))) == 3
    assert data_digest(small(pretraining=Pretrained(Text()))) != data_digest(small(pretraining=BEFORE))


def test_what_cannot_be_is_refused(small: Make) -> None:
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        Pretrained(Digits(), steps=0)
    with pytest.raises(ValueError, match="lr is 0; it must be greater than 0"):
        Pretrained(Digits(), lr=0)
    with pytest.raises(ValueError, match="pretraining knows no batch normalisation, which the model has"):
        small(model=Mlp((8,), norm="batch"), pretraining=BEFORE)
    with pytest.raises(
        ValueError, match=r"its data have .*shape \(12,\), 96 classes .*, the run's inputs of shape \(1, 8, 8\), 10 cl"
    ):
        start(small(pretraining=Pretrained(Text())))


def test_what_normalises_by_its_data_does_so_by_the_runs(small: Make) -> None:
    """The parameters alone are taken over."""
    run = small(model=SimBn(3), task=Task(Digits(train_size=40)), pretraining=BEFORE, dtype="float32")
    network = Simulation(run, Local(run.n), torch.device("cpu")).network
    assert network.module.get_buffer("inputs").shape == (40, 64)
    assert not torch.equal(start(run), start(replace(run, pretraining=Scratch())))
