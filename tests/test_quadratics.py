"""Gradient methods on quadratics: closed forms of a step, of stable learning rates and of escapes from a saddle."""

from __future__ import annotations

from math import ceil, log

import pytest
import torch

from dsgd.gradients import Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.gradients.ssam import Ssam
from dsgd.gradients.usam import Usam
from dsgd.quadratics import asked, descent, escape, stable_lr

H = (4.0, 1.0)
SADDLE, START = (2.0, -2.0), (-3.0, -0.01)


def numbers(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_each_method_asks_for_its_closed_form() -> None:
    w = numbers((1.0, -2.0), (0.5, 3.0))
    g = w * numbers(H)
    torch.testing.assert_close(asked(Plain(), H, w), g)
    usam = g * (1 + 0.1 * numbers(H))
    torch.testing.assert_close(asked(Usam(0.1), H, w), usam)
    scale = g.norm(dim=1, keepdim=True) / usam.norm(dim=1, keepdim=True)
    torch.testing.assert_close(asked(Ssam(0.1), H, w), usam * scale)
    sam = numbers(H) * (w + 0.1 * g / g.norm(dim=1, keepdim=True))
    torch.testing.assert_close(asked(Sam(0.1), H, w), sam)


def test_descent_goes_on_from_where_it_is() -> None:
    path = descent(Plain(), H, numbers((1.0, 1.0)), 0.1)
    torch.testing.assert_close(next(path), numbers((0.6, 0.9)))
    torch.testing.assert_close(next(path), numbers((0.36, 0.81)))
    rows = descent(Plain(), H, numbers((1.0, 1.0), (1.0, 1.0)), numbers((0.1,), (0.2,)))
    torch.testing.assert_close(next(rows), numbers((0.6, 0.9), (0.2, 0.8)))


@pytest.mark.parametrize(
    ("gradient", "theory"),
    [(Plain(), 2 / 4), (Usam(0.1), 2 / 5.6), (Usam(0.5), 2 / 12), (Ssam(0.1), 2 / 4), (Ssam(1.0), 2 / 4)],
    ids=repr,
)
@pytest.mark.parametrize("h", [(4.0,), H])
def test_the_largest_stable_learning_rate_is_theorys(gradient: Gradient, theory: float, h: tuple[float, ...]) -> None:
    assert stable_lr(gradient, h) == pytest.approx(theory, rel=0.005)


@pytest.mark.parametrize("h", [(0.5,), (100.0,)])
def test_a_learning_rate_off_the_grid_is_not_made_up(h: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"the largest stable learning rate is not between 0.05 and 1.00"):
        stable_lr(Plain(), h)


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.2, 0.45])
def test_usam_leaves_a_saddle_as_its_closed_form(rho: float) -> None:
    """|y| grows by 1 + lr kappa (1 - rho kappa) a step, from 0.01 to 1."""
    expected = ceil(log(100) / log(1 + 0.01 * 2 * (1 - 2 * rho)))
    assert escape(Usam(rho), SADDLE, START, 0.01, 3000) == expected
    assert escape(Usam(rho), SADDLE, START, 0.01, expected) == expected
    assert escape(Usam(rho), SADDLE, START, 0.01, expected - 1) is None


def test_beyond_one_over_kappa_a_saddle_attracts() -> None:
    assert escape(Usam(0.6), SADDLE, START, 0.01, 3000) is None
    path = descent(Usam(0.6), SADDLE, numbers(START), 0.01)
    assert abs(next(path)[0, 1]) == pytest.approx(0.01 * (1 + 0.02 * (1 - 1.2)))
