"""Cubatures are exact to their degree, and samples of N(0, Xi) have covariance Xi."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from dsgd.perturbations import antithetic, cloud, degree3, degree5


def gaussian_moment(powers: tuple[int, ...]) -> float:
    """E prod z_i^p_i for standard normal z."""
    return math.prod(0 if p % 2 else math.prod(range(1, p, 2)) for p in powers)


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize(("rule", "degree"), [(degree3, 3), (degree5, 5)])
def test_exact_for_every_monomial_up_to_the_degree(rank: int, rule: object, degree: int) -> None:
    found = rule(rank, torch.empty(0, dtype=torch.float64))  # type: ignore[operator]
    assert found.degree == degree
    for chosen in itertools.combinations_with_replacement(range(rank), degree):
        for total in range(degree + 1):
            powers = tuple(chosen[:total].count(i) for i in range(rank))
            value = (found.weights * (found.points ** torch.tensor(powers)).prod(dim=1)).sum()
            assert float(value) == pytest.approx(gaussian_moment(powers), abs=1e-12)


def test_degree5_is_not_exact_for_degree_six() -> None:
    found = degree5(3, torch.empty(0, dtype=torch.float64))
    assert abs(float((found.weights * found.points[:, 0] ** 6).sum()) - 15) > 1


def test_axes_reproduce_the_covariance() -> None:
    torch.manual_seed(0)
    rows = torch.randn(6, 11, dtype=torch.float64)
    found = cloud(rows)
    xi = found.deviations.T @ found.deviations / 6
    assert found.axes.shape == (5, 11)
    torch.testing.assert_close(found.axes.T @ found.axes, xi, atol=1e-12, rtol=0)
    assert float(found.trace) == pytest.approx(float(xi.trace()))


def test_equal_replicas_have_no_axes() -> None:
    assert cloud(torch.ones(4, 3)).axes.shape == (0, 3)


def test_sampled_covariance_converges_like_the_inverse_root_of_the_samples() -> None:
    torch.manual_seed(0)
    found = cloud(torch.randn(5, 8, dtype=torch.float64))
    xi = found.deviations.T @ found.deviations / 5
    errors = []
    for k in (1_000, 100_000):
        e = found.offsets(torch.randn(k, found.size, dtype=torch.float64))
        errors.append(float((e.T @ e / k - xi).norm() / xi.norm()))
    assert errors[1] < 0.02
    assert 4 < errors[0] / errors[1] < 25


def test_antithetic_coefficients_have_no_odd_moments() -> None:
    z = antithetic(torch.randn(10, 3, dtype=torch.float64))
    assert float((z**3).sum(dim=0).abs().max()) < 1e-12
