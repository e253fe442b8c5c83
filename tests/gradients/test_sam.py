"""A radius that changes on the way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import dsgd
from dsgd.gradients.sam import Sam
from dsgd.run import Run


def test_the_radius_changes_at_its_milestones() -> None:
    sam = Sam(0.1, (3, 5), (0.5, 0.0))
    assert [sam.rho_at(step) for step in range(7)] == [0.1, 0.1, 0.1, 0.5, 0.5, 0.0, 0.0]


def test_a_run_follows_them(small: Callable[..., Run]) -> None:
    """Up to the milestone with the one radius, from there on with the other."""

    def last(gradient: Sam, steps: int) -> torch.Tensor:
        return torch.cat([leaf.flatten() for leaf in dsgd.train(small(gradient=gradient, steps=steps)).params.values()])

    changed = Sam(0.3, (4,), (0.0,))
    assert torch.equal(last(changed, 4), last(Sam(0.3), 4))
    assert not torch.equal(last(changed, 5), last(Sam(0.3), 5))
    assert torch.equal(last(Sam(0.3, (1,), (0.3,)), 5), last(Sam(0.3), 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sam(0.1, (3,)), "milestones has 1 steps and rhos 0 radii"),
        (lambda: Sam(0.1, (3, 3), (0.2, 0.3)), "each must be a step after the one before"),
        (lambda: Sam(0.1, (0,), (0.2,)), "each must be a step after the one before"),
        (lambda: Sam(0.1, (3,), (-0.2,)), r"rhos are \[-0.2\]; each must be at least 0"),
        (lambda: Sam(-0.1), "rho is -0.1; it must be at least 0"),
    ],
)
def test_impossible_radii_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
