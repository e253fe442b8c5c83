"""All four ways to mix agree with the dense product, in any number of threads."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest
import torch

from dsgd import mixing
from dsgd.mixing import Neighbours, mixed, neighbours, way_of
from dsgd.threads import torch_threads
from dsgd.trees import Layout, Params, Scaled
from topologies import Permutation, RandomMatching, Sparse, Topology

MATRICES: dict[str, Sparse | Permutation] = {
    "ring": Topology("ring", 7).matrix(),  # type: ignore[dict-item]
    "exponential": Topology("exponential", 7).matrix(),  # type: ignore[dict-item]
    "star": Topology("star", 7).matrix(),  # type: ignore[dict-item]
    "matching": RandomMatching(Topology("complete", 7))(3),  # type: ignore[dict-item]
}
WAYS = ("dense", "compiled", "by_rows", "sparse")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setattr(mixing, "way_of", lambda *_: request.param)
    monkeypatch.setattr(mixing, "ROW_PART", 16)
    monkeypatch.setattr(mixing, "COLUMNS", 16)
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("name", MATRICES)
def test_every_way_is_the_dense_product(way: str, name: str, adds: bool, threads: int, dtype: torch.dtype) -> None:
    w = MATRICES[name]
    matrix, direction = torch.randn(7, 83, dtype=dtype), torch.randn(7, 83, dtype=dtype)
    plus = Scaled(Params(direction, Layout(("w",), ((83,),))), -0.3) if adds else None
    expected = torch.from_numpy(w.toarray()) @ matrix.double() + (-0.3 * direction.double() if adds else 0)
    with torch_threads(threads):
        found = mixed(neighbours(w), matrix, plus)
    assert found.dtype == dtype
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_some_rows_hear_more_than_there_are(way: str) -> None:
    """What a part of the replicas needs of the others: a matrix with fewer rows than columns."""
    w = Neighbours(np.array([0, 2, 5]), np.array([0, 3, 1, 2, 3]), np.array([0.5, 0.5, 0.2, 0.3, 0.5]), 4)
    matrix = torch.randn(4, 40, dtype=torch.float64)
    torch.testing.assert_close(mixed(w, matrix, None), w.dense(matrix) @ matrix)


@pytest.mark.parametrize("adds", [False, True])
def test_a_row_that_hears_nobody_is_zero(way: str, adds: bool) -> None:
    w = Neighbours(np.array([0, 0, 1, 1]), np.array([1]), np.array([0.5]), 3)
    matrix = torch.randn(3, 40, dtype=torch.float64)
    plus = Scaled(Params(torch.ones(3, 40, dtype=torch.float64), Layout(("w",), ((40,),))), -0.3) if adds else None
    expected = w.dense(matrix) @ matrix - (0.3 if adds else 0)
    torch.testing.assert_close(mixed(w, matrix, plus), expected)


def test_the_number_of_threads_changes_no_bit(way: str) -> None:
    matrix = torch.randn(64, 900)
    w = neighbours(Topology("exponential", 64).matrix())  # type: ignore[arg-type]
    found = []
    for threads in (1, 3):
        with torch_threads(threads):
            found.append(mixed(w, matrix, None))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("rows", "n", "d", "cuda", "way"),
    [
        (16, 16, 2410, False, "dense"),
        (64, 64, 159_010, False, "compiled"),
        (1024, 1024, 650, False, "sparse"),
        (16, 16, 11_000_000, True, "dense"),
        (1024, 1024, 159_010, True, "sparse"),
    ],
)
def test_the_rule(rows: int, n: int, d: int, cuda: bool, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "find_spec", lambda name: name)
    assert way_of(rows, n, d, cuda) == way
    monkeypatch.setattr(mixing, "find_spec", lambda name: None)
    assert way_of(rows, n, d, cuda) == ("by_rows" if way == "compiled" else way)


def test_side_by_side_fixes_the_number_of_ranges_and_leaves_torch_one_thread() -> None:
    from dsgd.threads import over_parts, side_by_side

    before, seen = torch.get_num_threads(), []

    def work(start: int, stop: int) -> None:
        seen.append((start, stop, torch.get_num_threads()))

    with side_by_side(3):
        over_parts(work, 7)
        assert torch.get_num_threads() == 1
        over_parts(work, 1)
    assert torch.get_num_threads() == before
    assert sorted(seen[:3]) == [(0, 2, 1), (2, 4, 1), (4, 7, 1)]
    assert seen[3] == (0, 1, 3)


def test_torch_gets_its_threads_back_when_two_threads_asked_for_others() -> None:
    import threading

    before, inside, leave = torch.get_num_threads(), threading.Barrier(2), threading.Barrier(2)

    def asks() -> None:
        with torch_threads(1):
            inside.wait(10)
            leave.wait(10)

    other = threading.Thread(target=asks)
    other.start()
    with torch_threads(1):
        inside.wait(10)
        leave.wait(10)
    other.join()
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    from dsgd.threads import over_parts, side_by_side

    with side_by_side(2):
        over_parts(lambda start, stop: None, 2)
        child = os.fork()
        if child == 0:
            over_parts(lambda start, stop: None, 2)
            os._exit(0)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the forked process waits for threads that it does not have")
        time.sleep(0.05)
    assert ended == (child, 0)
