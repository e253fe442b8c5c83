"""A large matrix lies where one of its size lay before, and never where one still is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dsgd import matrices
from dsgd.matrices import ALIGNMENT, KEPT, LARGE, forget_freed, new_matrix

ROWS = 4
LIKE = torch.empty(LARGE // ROWS // 8, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    forget_freed()
    yield
    forget_freed()


@pytest.mark.parametrize("d", [1, 33, len(LIKE)])
def test_shape_dtype_and_alignment(d: int) -> None:
    made = new_matrix(3, LIKE[:d].float())
    assert (made.shape, made.dtype, made.device) == ((3, d), torch.float32, LIKE.device)
    assert made.is_contiguous()
    assert made.data_ptr() % ALIGNMENT == 0


def test_what_nothing_refers_to_is_used_again() -> None:
    first = new_matrix(ROWS, LIKE)
    place = first.data_ptr()
    del first
    assert new_matrix(ROWS, LIKE).data_ptr() == place


def test_what_anything_refers_to_is_left_alone() -> None:
    """A view, a row or a NumPy array of it is enough."""
    kept = [
        new_matrix(ROWS, LIKE).fill_(0),
        new_matrix(ROWS, LIKE).fill_(1)[2:],
        new_matrix(ROWS, LIKE).fill_(2).numpy(),
    ]
    others = [new_matrix(ROWS, LIKE).fill_(-1) for _ in range(4)]
    assert [sorted({float(value) for value in (rows.min(), rows.max())}) for rows in kept] == [[0], [1], [2]]
    assert len({matrix.data_ptr() for matrix in others}) == 4


def test_another_size_lets_go_of_what_was_kept_and_of_what_comes_back_later() -> None:
    late, early = new_matrix(ROWS, LIKE), new_matrix(ROWS, LIKE)
    del early
    other = new_matrix(ROWS + 1, LIKE)
    del late
    assert sum(map(len, matrices._FREED.values())) == 0
    del other
    assert [len(blocks) for blocks in matrices._FREED.values()] == [1]


def test_no_more_is_kept_than_a_step_drops() -> None:
    several = [new_matrix(ROWS, LIKE) for _ in range(KEPT + 3)]
    several.clear()
    assert [len(blocks) for blocks in matrices._FREED.values()] == [KEPT]


def test_small_matrices_are_not_kept() -> None:
    large = new_matrix(ROWS, LIKE)
    del large
    small = new_matrix(1, LIKE)
    del small
    assert [len(blocks) for blocks in matrices._FREED.values()] == [1]
