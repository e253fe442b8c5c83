"""The instrument against losses whose derivatives of each order are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import dsgd

D = 6


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def form(order: int) -> Tensor:
    return torch.randn((D,) * order, dtype=torch.float64)


def polynomial(*orders: int):  # type: ignore[no-untyped-def]
    """A random polynomial with one form of each order."""
    forms = [form(order) for order in orders]

    def loss(p: Mapping[str, Tensor]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for f in forms:
            for _ in range(f.ndim):
                f = f @ p["w"]
            total = total + f
        return total

    return loss


def ensemble(n: int, spread: float = 0.3) -> dict[str, Tensor]:
    return {"w": torch.randn(D, dtype=torch.float64) + spread * (torch.rand(n, D, dtype=torch.float64) ** 3)}


def test_quadratic_all_three_gradients_are_equal() -> None:
    found = dsgd.probe(polynomial(1, 2), ensemble(8))
    assert found["correction"] < 1e-12
    assert found["residual"] < 1e-12
    assert found["symmetrised_residual"] < 1e-12
    assert found["ratio"] is None
    assert found["cosine"] is None


def test_cubic_d_sgd_is_average_direction_sam_and_not_sgd() -> None:
    found = dsgd.probe(polynomial(1, 2, 3), ensemble(8))
    assert found["residual"] < 1e-12
    assert found["correction"] > 1e-3


def test_quartic_the_symmetrised_replicas_are_exact_and_the_replicas_are_not() -> None:
    found = dsgd.probe(polynomial(1, 2, 3, 4), ensemble(8))
    assert found["symmetrised_residual"] < 1e-12 * max(1, found["correction"])
    assert found["residual"] > 1e-3


def test_two_replicas_have_no_skewness_so_the_residual_is_of_fourth_order() -> None:
    found = dsgd.probe(lambda p: torch.cosh(p["w"] * torch.arange(1, D + 1)).log().sum(), ensemble(2))
    assert found["slopes"]["residual"] == pytest.approx(4, abs=0.1)


def test_smooth_loss_has_the_orders_of_the_theorem() -> None:
    a = torch.randn(20, D, dtype=torch.float64)
    found = dsgd.probe(lambda p: torch.tanh(a @ p["w"] + 0.3).square().sum(), ensemble(9))
    expected = {"correction": 2, "residual": 3, "symmetrised": 4, "ratio": 1, "one_minus_cosine": 2, "loss_gap": 3}
    for name, order in expected.items():
        assert found["slopes"][name] == pytest.approx(order, abs=0.05), name


def test_trace_and_hessian_term_are_those_of_the_dense_matrices() -> None:
    loss, stacked = polynomial(2, 3), ensemble(5)
    mean = stacked["w"].mean(dim=0)
    deviations = stacked["w"] - mean
    xi = deviations.T @ deviations / 5
    hessian = torch.autograd.functional.hessian(lambda w: loss({"w": w}), mean)
    found = dsgd.probe(loss, stacked)
    assert found["trace_xi"] == pytest.approx(float(xi.trace()), rel=1e-12)
    assert found["half_trace_h_xi"] == pytest.approx(float((hessian @ xi).trace() / 2), rel=1e-10)


def test_the_wrong_normaliser_would_be_seen() -> None:
    """Replicas stretched by sqrt(n / (n - 1)) no longer share Xi's second moment: a relative error of 1 / (n - 1)."""
    from dsgd.metrics.instrument import Probe, by_cubature

    loss, w = polynomial(3), ensemble(6)["w"]
    stretched = w.mean(dim=0) + (w - w.mean(dim=0)) * (6 / 5) ** 0.5
    right, wrong = (Probe(rows, lambda row: loss({"w": row})) for rows in (w, stretched))
    g_a, g_d = right.weighted(_rule(right), 1.0), wrong.g_d(1.0)
    assert float((g_d - g_a).norm() / (g_a - right.g).norm()) == pytest.approx(1 / 5, rel=1e-6)
    assert by_cubature(right, 1.0)["residual"] < 1e-11  # type: ignore[operator]


def _rule(probe):  # type: ignore[no-untyped-def]
    from dsgd.perturbations import degree5

    return degree5(len(probe.axes), probe.axes)


def test_monte_carlo_agrees_with_the_cubature_on_a_smooth_loss() -> None:
    a = torch.randn(20, D, dtype=torch.float64)
    stacked = ensemble(9, spread=0.15)

    def loss(p: Mapping[str, Tensor]) -> Tensor:
        return torch.tanh(a @ p["w"] + 0.3).square().sum()

    exact = dsgd.probe(loss, stacked)
    sampled = dsgd.probe(loss, stacked, smooth=False, pairs=2048, block=512)
    assert sampled["estimator"] == "antithetic_monte_carlo"
    assert sampled["correction"] == pytest.approx(exact["correction"], rel=0.1)
    assert sampled["residual"] == pytest.approx(exact["residual"], rel=0.25)


def test_kinks_break_the_orders() -> None:
    torch.manual_seed(3)
    a, b = torch.randn(2000, D, dtype=torch.float64), torch.randn(2000, dtype=torch.float64)
    found = dsgd.probe(lambda p: torch.relu(a @ p["w"] + b).mean(), ensemble(9), smooth=False, pairs=256)
    assert found["slopes"]["residual"] < 2


def test_a_sampled_slope_is_never_fitted_across_the_gap_to_the_natural_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of the five small scales are no slope, though s = 1 would make a fifth."""
    from dsgd.metrics import instrument

    def at(probe: instrument.Probe, s: float) -> dict[str, float | None]:
        value = None if s == 2.0**-8 else s
        return dict.fromkeys(instrument.QUANTITIES, value)

    monkeypatch.setattr(instrument, "by_monte_carlo", at)
    found = dsgd.probe(polynomial(2, 3), ensemble(5), smooth=False)
    assert found["curves"]["residual"][-1] is None
    assert set(found["slopes"].values()) == {None}


def test_own_losses_bring_a_first_order_term() -> None:
    losses = [polynomial(1, 2, 3) for _ in range(6)]

    def loss(p: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([own(p) for own in losses]).mean()

    found = dsgd.probe(loss, ensemble(6), local_losses=losses)
    assert found["slopes"]["residual"] == pytest.approx(1, abs=0.05)


def test_above_rank_40_degree_three_and_no_symmetrised_residual() -> None:
    stacked = {"w": 0.1 * torch.randn(50, 60, dtype=torch.float64)}
    found = dsgd.probe(lambda p: torch.cos(p["w"]).sum(), stacked)
    assert found["estimator"] == "cubature_degree_3"
    assert found["symmetrised_residual"] is None
    assert found["slopes"]["symmetrised"] is None
    assert found["slopes"]["residual"] == pytest.approx(3, abs=0.1)


def test_equal_replicas_have_nothing_to_measure() -> None:
    found = dsgd.probe(polynomial(1, 3), {"w": torch.ones(4, D, dtype=torch.float64)})
    assert found["correction"] == 0
    assert found["ratio"] is None
    assert set(found["slopes"].values()) == {None}


@pytest.mark.parametrize(
    ("stacked", "message"),
    [
        ({}, "n >= 2 replicas"),
        ({"w": torch.ones(1, D)}, "n >= 2 replicas"),
        ({"w": torch.ones(3, D), "b": torch.ones(2)}, "same n"),
        ({"w": torch.tensor(1.0)}, "n >= 2 replicas"),
        (torch.ones(3, D), "must be a dict of tensors"),
        ({"w": [[1.0], [2.0]]}, "must be a dict of tensors"),
        ({"w": torch.ones(3, D), "b": torch.full((3, 2), torch.nan)}, r"stacked\['b'\] is not finite"),
    ],
)
def test_what_is_not_an_ensemble_is_refused(stacked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dsgd.probe(polynomial(2), stacked)


def test_a_loss_with_float32_data_is_refused_with_the_remedy() -> None:
    a = torch.randn(3, D)
    with pytest.raises(ValueError, match=r"\.double\(\)"):
        dsgd.probe(lambda p: (a @ p["w"]).sum(), ensemble(3))


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"returns a tensor of shape \(6,\); it must return a scalar"):
        dsgd.probe(lambda p: p["w"], ensemble(3))
    with pytest.raises(ValueError, match=r"loss returns a float; it must return a scalar tensor that torch can diff"):
        dsgd.probe(lambda p: float(p["w"].sum()), ensemble(3))  # type: ignore[arg-type, return-value]


def test_a_loss_that_asks_for_another_parameter_is_told_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"loss asks for 'weight'; the parameters in stacked are w$"):
        dsgd.probe(lambda p: p["weight"].sum(), ensemble(3))


def along_a_line(third: float, fourth: float):  # type: ignore[no-untyped-def]
    """A loss whose gap is third * M_3 s^3 + fourth * M_4 s^4 exactly, and an ensemble on a line with M_3 = M_4 = 1."""
    rows = torch.tensor([-1.0, -1.0, 2.0], dtype=torch.float64)  # moments 0, 2, 2, 6
    return lambda p: (third / 2 * p["w"] ** 3 + fourth / 6 * p["w"] ** 4).sum(), {"w": rows[:, None]}


def test_the_loss_gap_keeps_its_sign() -> None:
    loss, stacked = along_a_line(1.0, -4.0)
    found = dsgd.probe(loss, stacked)
    assert found["curves"]["loss_gap"][0] == pytest.approx(1 - 4, rel=1e-12)
    assert found["curves"]["loss_gap"][3] == pytest.approx(2**-9 - 4 * 2**-12, rel=1e-9)


@pytest.mark.parametrize("crossing", [2.0**-2.5, 2.0**-6.5, 2.0**-8.5])
def test_a_window_across_a_sign_change_is_left_for_smaller_scales(crossing: float) -> None:
    loss, stacked = along_a_line(1.0, -1 / crossing)
    found = dsgd.probe(loss, stacked)
    assert found["slopes"]["loss_gap"] == pytest.approx(3, abs=0.2)
    assert found["scales"][-1] <= min(2.0**-10, crossing / 4)


def test_a_sign_change_above_the_rounding_floor_only_leaves_no_slope() -> None:
    """A loss of 1e6 rounds away every gap below about 1e-8, and with it the scales to the left of the sign change."""
    curved, stacked = along_a_line(1.0, -(2.0**6.5))
    found = dsgd.probe(lambda p: curved(p) + 1e6, stacked)
    signs = {value > 0 for value in found["curves"]["loss_gap"][:8]}
    assert signs == {True, False}
    assert found["slopes"]["loss_gap"] is None


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5])
def test_exact_powers_are_fitted_exactly_at_the_smallest_scales_that_have_a_value(order: float) -> None:
    from dsgd.metrics.instrument import fitted_slope

    scales = [2.0**-k for k in range(8)]
    values = [None if k == 7 else s**order if k else 100.0 for k, s in enumerate(scales)]
    assert fitted_slope(scales, values, 0.5) == pytest.approx(order, abs=1e-12)
    assert fitted_slope(scales, [v and -v for v in values], 0.5) == pytest.approx(order, abs=1e-12)
    assert fitted_slope(scales, values[:4] + [None] * 4, 0.5) is None


def test_a_window_without_a_stable_order_has_no_slope() -> None:
    from dsgd.metrics.instrument import fitted_slope

    scales = [2.0**-k for k in range(5)]
    broken = [s**2 if s > 0.2 else s**3 for s in scales]
    assert fitted_slope(scales, broken, 0.5) is None
    assert fitted_slope(scales, broken, float("inf")) is not None
    assert fitted_slope(scales, [s - 0.2 for s in scales], float("inf")) is None


@pytest.mark.parametrize("scales", [(), (0.5,), (1.0, 1.0), (1.0, 0.0), (1.0, float("nan")), (1.0, float("nan"), 0.1)])
def test_scales_that_do_not_fall_from_one_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^scales is \[.*\]; they must start with 1 and fall, above 0$"):
        dsgd.metrics.Equivalence(scales=scales)


def test_the_limit_values_are_those_of_the_smallest_scale_above_rounding() -> None:
    a = torch.randn(20, D, dtype=torch.float64)
    found = dsgd.probe(lambda p: torch.tanh(a @ p["w"] + 0.3).square().sum(), ensemble(9))
    assert found["limit_ratio"] in found["curves"]["ratio"]
    assert found["limit_ratio"] < found["ratio"] / 16
    assert found["cosine"] < found["limit_cosine"] <= 1


def test_replicas_that_differ_by_rounding_only_are_equal() -> None:
    run = dsgd.Run(batch_size=4, steps=1, metrics=(dsgd.metrics.Equivalence(8, every=1),))
    start, end = dsgd.train(run).history
    assert not [name for name in start if name.startswith("equivalence")]
    assert end["equivalence_rank"] == 15
