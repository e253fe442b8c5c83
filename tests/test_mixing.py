"""All four ways to mix agree with the dense product, in any number of threads."""

from __future__ import annotations

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


def test_the_number_of_threads_changes_no_bit() -> None:
    matrix = torch.randn(64, 9000)
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
