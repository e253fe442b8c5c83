"""Row-wise algebra: every operation on a stack is the operation on each replica."""

from __future__ import annotations

import pytest
import torch

from dsgd import trees
from dsgd.trees import Layout, Params, stack


@pytest.fixture
def leaves() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"weight": torch.randn(4, 3, 2), "bias": torch.randn(4, 3), "scale": torch.randn(4)}


def test_a_stack_gives_back_its_leaves_as_views(leaves: dict[str, torch.Tensor]) -> None:
    p = stack(leaves)
    assert p.matrix.shape == (4, 10)
    assert list(p) == list(leaves)
    for name, leaf in leaves.items():
        assert torch.equal(p[name], leaf)
        assert p[name].untyped_storage().data_ptr() == p.matrix.untyped_storage().data_ptr()


def test_norm_and_dot_are_each_replicas_own(leaves: dict[str, torch.Tensor]) -> None:
    p = stack(leaves)
    rows = [torch.cat([leaf[j].reshape(-1) for leaf in leaves.values()]) for j in range(4)]
    torch.testing.assert_close(trees.norm(p), torch.stack([r.norm() for r in rows]))
    torch.testing.assert_close(trees.dot(p, p), torch.stack([r @ r for r in rows]))


def test_a_number_a_replica_scales_only_that_replica(leaves: dict[str, torch.Tensor]) -> None:
    p = stack(leaves)
    factors = torch.tensor([1.0, 2.0, 0.0, -1.0])
    scaled = p * factors
    for j, factor in enumerate(factors):
        torch.testing.assert_close(scaled["weight"][j], leaves["weight"][j] * factor)


def test_leaf_norms_spread_each_leafs_norm_over_its_numbers(leaves: dict[str, torch.Tensor]) -> None:
    norms = trees.leaf_norms(stack(leaves))
    torch.testing.assert_close(norms[2, :6], leaves["weight"][2].norm().expand(6))
    torch.testing.assert_close(norms[2, 6:9], leaves["bias"][2].norm().expand(3))


def test_layout_of_a_single_row_has_no_replica_axis() -> None:
    layout = Layout(("a", "b"), ((2, 2), ()))
    found = layout.leaves(torch.arange(5.0))
    assert found["a"].tolist() == [[0, 1], [2, 3]]
    assert found["b"].item() == 4


def test_arithmetic_keeps_names() -> None:
    p = Params(torch.ones(2, 3), Layout(("a",), ((3,),)))
    assert dict((p + p) - p * 0.5)["a"].tolist() == [[1.5] * 3] * 2
