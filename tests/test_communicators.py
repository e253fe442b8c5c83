"""Replicas held in several places: the same numbers as in one, whatever crosses between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from dsgd.algorithms import ALGORITHMS
from dsgd.communicators import Local
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.loop import simulate
from dsgd.metrics import Consensus
from dsgd.optimizers import Sgd
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.trees import Layout, Params, Scaled
from topologies import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse, Static, Topology

Make = Callable[..., Run]
CPU = torch.device("cpu")
PARTS = ((0, 3), (1, 2, 4))


class Board:
    """Where the parts show their rows to each other, in rounds."""

    def __init__(self, parts: tuple[tuple[int, ...], ...]) -> None:
        self.barrier = threading.Barrier(len(parts), timeout=20)
        self.n = sum(map(len, parts))
        self.shown: dict[int, torch.Tensor] = {}

    def all(self, rows: tuple[int, ...], matrix: torch.Tensor) -> torch.Tensor:
        self.shown |= dict(zip(rows, matrix, strict=True))
        self.barrier.wait()
        everything = torch.stack([self.shown[j] for j in range(self.n)])
        self.barrier.wait()
        return everything


class Part:
    """A communicator that holds some of the rows and sees the others on a board."""

    def __init__(self, rows: tuple[int, ...], board: Board) -> None:
        self.n, self.rows, self.board = board.n, rows, board
        self.leads, self.bytes_crossed = 0 in rows, 0

    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params:
        mixed = torch.from_numpy(w.toarray()[list(self.rows)]).to(p.matrix) @ self.gather(p).matrix
        return p.like(mixed) if plus is None else p.like(mixed) + plus

    def gather(self, p: Params) -> Params:
        return p.like(self.board.all(self.rows, p.matrix))

    def collect(self, p: Params) -> Params | None:
        everything = self.gather(p)
        return everything if self.leads else None


def in_parts(run: Run) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """The run with its five replicas held in two places, each in a thread."""
    board = Board(PARTS)
    simulations = [Simulation(run, Part(rows, board), CPU) for rows in PARTS]
    with ThreadPoolExecutor(len(PARTS)) as pool:
        first, second = pool.map(simulate, simulations)
    assert second.history == []
    assert second.params == {}
    return first.params, first.history


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_held_in_parts_the_numbers_are_the_same(small: Make, algorithm: str, name: str) -> None:
    """Also those of the twins, which average over all replicas and not only over those beside which they are held."""
    run = small(
        n=5,
        algorithm=algorithm,
        gradient=GRADIENTS[name](),
        optimizer=Sgd(momentum=0.9),
        gradient_noise=0.1,
        twins=(WeightDiversity(), Plain()),
        metrics=(Consensus(),),
        steps=5,
        measure_every=1,
    )
    params, history = in_parts(run)
    whole = simulate(Simulation(run, Local(5), CPU))
    for leaf, expected in whole.params.items():
        torch.testing.assert_close(params[leaf], expected, rtol=1e-10, atol=1e-12)
    for row, expected_row in zip(history, whole.history, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-8, abs=1e-12)
    assert whole.history[-1]["centralized_distance"] > 0 or algorithm == "centralized"


KINDS: dict[str, MixingMatrix] = {
    "identity": Identity(5),
    "mean": Mean(5),
    "permutation": Permutation(np.array([1, 0, 2, 4, 3]), 0.25),
    "sparse": Topology("ring", 5).matrix(),
    "dense": Dense(np.arange(25.0).reshape(5, 5)),
}


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_mix_is_w_times_the_rows_plus_an_update(kind: str, added: bool) -> None:
    """One new matrix, contiguous; what was given is left as it was."""
    layout = Layout(("w",), ((7,),))
    p, u = (Params(torch.randn(5, 7, dtype=torch.float64), layout) for _ in range(2))
    before = p.matrix.clone(), u.matrix.clone()
    w = KINDS[kind]
    mixed = Local(5).mix(p, w, Scaled(u, -0.5) if added else None).matrix
    expected = torch.from_numpy(w.toarray()) @ p.matrix + (-0.5 * u.matrix if added else 0)
    torch.testing.assert_close(mixed, expected, rtol=1e-14, atol=1e-14)
    assert mixed.is_contiguous()
    assert torch.equal(p.matrix, before[0])
    assert torch.equal(u.matrix, before[1])
    assert mixed.data_ptr() != p.matrix.data_ptr() or (kind == "identity" and not added)


def test_the_matrices_in_torchs_form_are_kept_but_not_for_ever() -> None:
    from dsgd.communicators import KEPT

    local, p = Local(4), Params(torch.ones(4, 3), Layout(("w",), ((3,),)))
    ring = Static(Topology("ring", 4))
    for step in range(3):
        local.mix(p, ring(step))
    assert len(local._kept) == 1
    for _ in range(2 * KEPT):
        local.mix(p, Sparse(Topology("path", 4).matrix().sparse().copy()))
    assert len(local._kept) == KEPT
