"""The smoothing of gradients against losses whose average over a Gaussian is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dsgd
from dsgd.data import NoData
from dsgd.metrics import Smoothing, equivalence
from dsgd.metrics.lines import Lines
from dsgd.metrics.lipschitz import ALL, measure
from dsgd.models import Mlp, Quadratic
from dsgd.tasks import Task
from topologies import Static, Topology

D = 7
Grads = Callable[[Tensor], Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def replicas(n: int = 5, spread: float = 0.5) -> Tensor:
    return normal(D, seed=1) + spread * normal(n, D, seed=2)


def xi_of(rows: Tensor) -> Tensor:
    deviations = rows - rows.mean(dim=0)
    return deviations.T @ deviations / len(rows)


WAVES = normal(12, D, seed=3)
HEIGHTS = normal(12, seed=4)


def cosines(xi: Tensor | None = None) -> Grads:
    """Gradients of f = sum_i c_i cos(a_i . w), or of f_Xi: each wave lowered by exp(-a_i^T Xi a_i / 2)."""
    heights = HEIGHTS if xi is None else HEIGHTS * torch.exp(-((WAVES @ xi) * WAVES).sum(dim=1) / 2)
    return lambda rows: -(torch.sin(rows @ WAVES.T) * heights) @ WAVES


def quadratic() -> Grads:
    root = normal(D, D, seed=5)
    return lambda rows: rows @ (root @ root.T)


def along_the_first(kink: Callable[[Tensor], Tensor]) -> Grads:
    """Gradients of a function of the first coordinate alone."""
    return lambda rows: torch.cat([kink(rows[:, :1]), torch.zeros_like(rows[:, 1:])], dim=1)


@pytest.mark.parametrize("isotropic", [False, True])
def test_a_quadratic_is_not_smoothed_in_any_direction(isotropic: bool) -> None:
    found = measure(Lines(replicas(), quadratic(), isotropic=isotropic))
    for name in ("ratio", "surroundings", "cancelling"):
        for where in ("span", "off"):
            assert found[f"{name}_{where}"] == pytest.approx(1, abs=1e-10)
            assert found[f"{name}_{where}_error"] == pytest.approx(0, abs=1e-10)


def test_the_constants_of_a_quadratic_are_those_of_its_hessian() -> None:
    lines = Lines(replicas(), quadratic())
    hessian = quadratic()(torch.eye(D, dtype=torch.float64))
    found = measure(lines)
    for where, those in (("span", lines.span_lines()), ("off", lines.off_lines())):
        expected = fmean(float((hessian @ line.u).norm()) for line in those)
        assert found[f"lipschitz_{where}"] == pytest.approx(expected, rel=1e-10)
        assert found[f"smoothed_{where}"] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("isotropic", [False, True])
def test_of_a_quadratic_the_bound_is_known_along_every_line(isotropic: bool) -> None:
    """alpha is the largest gradient seen, and along u the gradient changes by |H u| per distance, shifted or not."""
    lines = Lines(replicas(), quadratic(), isotropic=isotropic)
    found, hessian = measure(lines), quadratic()(torch.eye(D, dtype=torch.float64))
    us = [line.u for line in [*lines.span_lines(), *(lines.off_lines() if isotropic else ())]]
    xi = xi_of(lines.rows)
    inverse = torch.eye(D).double() * D / xi.trace() if isotropic else torch.linalg.pinv(xi, hermitian=True, rtol=1e-10)
    bounds = [found["gradient"] * (2 / math.pi * float(u @ inverse @ u)) ** 0.5 for u in us]
    betas = [float((hessian @ u).norm()) for u in us]
    assert found["bound"] == pytest.approx(fmean(bounds), rel=1e-8)
    to_beta = [bound / beta for bound, beta in zip(bounds, betas, strict=True)]
    assert found["bound_to_beta"] == pytest.approx(min(to_beta), rel=1e-8)
    assert found["bound_share"] == pytest.approx(max(1 / ratio for ratio in to_beta), rel=1e-8)
    assert max(to_beta) > 1.1 * min(to_beta)


@pytest.mark.parametrize("c", [3.0, 0.5])
def test_of_a_cubic_all_is_known_from_the_draws(c: float) -> None:
    """f' = c w + w^2 / 2: on one segment around 0, shifted by e, it changes by c + e per distance; -e is drawn too."""
    rows = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    lines = Lines(rows, lambda w: c * w + w**2 / 2, directions=2, pairs=16, points=2)
    e = lines.noise.pair_draws(0, 16)[:, 0]
    farthest, nearby = float(e.abs().max()), (c**2 + float(e.square().mean())) ** 0.5
    found = measure(lines)
    assert found["spread"] == 1
    assert found["lipschitz_span"] == pytest.approx(c, rel=1e-12)
    assert found["smoothed_span"] == pytest.approx(c, rel=1e-12)
    assert found["surroundings_span"] == pytest.approx(nearby / c, rel=1e-12)
    assert found["cancelling_span"] == pytest.approx(c / nearby, rel=1e-12)
    alpha = c * (1 + farthest) + (1 + farthest) ** 2 / 2
    assert found["gradient"] == pytest.approx(alpha, rel=1e-12)
    assert found["bound"] == pytest.approx(alpha * (2 / math.pi) ** 0.5, rel=1e-12)
    assert found["bound_to_beta"] == pytest.approx(alpha * (2 / math.pi) ** 0.5 / (c + farthest), rel=1e-12)


@pytest.mark.parametrize("isotropic", [False, True])
def test_cosines_are_smoothed_as_in_closed_form(isotropic: bool) -> None:
    """On the same lines, the smoothed constants of f are the own ones of its average, and closer with more draws."""
    rows = replicas(spread=0.3)
    xi = xi_of(rows)
    averaged = torch.eye(D, dtype=torch.float64) * xi.trace() / D if isotropic else xi
    exact = measure(Lines(rows, cosines(averaged), directions=4))
    few, many = (
        measure(Lines(rows, cosines(), directions=4, pairs=pairs, isotropic=isotropic, block=2**14))
        for pairs in (64, 4096)
    )
    for where in ("span", "off"):
        own = many[f"lipschitz_{where}"]
        assert many[f"smoothed_{where}"] == pytest.approx(exact[f"lipschitz_{where}"], rel=0.02)
        assert abs(own - exact[f"lipschitz_{where}"]) > 0.1 * own  # there is something to smooth
        assert many[f"ratio_{where}_error"] < 0.3 * few[f"ratio_{where}_error"]
        assert few[f"smoothed_{where}"] == pytest.approx(exact[f"lipschitz_{where}"], rel=0.2)


def test_the_standard_error_is_how_much_the_ratio_scatters_over_draws() -> None:
    """Two replicas have one direction in their span, so that seeds change the draws alone."""
    lines = Lines(replicas(2), cosines(), directions=1, pairs=32)
    found = [measure(replace(lines, seed=seed)) for seed in range(60)]
    for name in ("ratio", "surroundings", "cancelling"):
        scatter = stdev(values[f"{name}_span"] for values in found)
        assert fmean(values[f"{name}_span_error"] for values in found) == pytest.approx(scatter, rel=0.35)


def test_noise_does_not_lengthen_what_averages_to_nothing() -> None:
    """A wave many standard deviations short: E change is 0 to the last digit, where the mean's length is not."""
    wave = along_the_first(lambda x: torch.sin(20 * x))
    lines = Lines(replicas(2, spread=3.0), wave, directions=1, pairs=32, points=2)
    unbiased, plain = [], []
    for seed in range(60):
        one = replace(lines, seed=seed)
        inner = one.along(next(one.span_lines())).inner[:, :, 0]
        unbiased.append((inner.sum() - np.trace(inner)) / (len(ALL) * (len(ALL) - 1)))
        plain.append(inner.mean())
    assert abs(fmean(unbiased)) < 3 * stdev(unbiased) / 60**0.5
    assert fmean(plain) > 3 * stdev(plain) / 60**0.5


@pytest.mark.parametrize("reach", [1.0, 0.25])
def test_a_kink_has_the_share_of_the_bound_that_the_normal_law_gives_it(reach: float) -> None:
    """f = |w|: grad f_Xi(t) = erf(t / (sd sqrt 2)), so over [-reach sd, reach sd] erf(reach / sqrt 2) / (reach sd)."""
    rows = torch.tensor([[-1.0], [1.0], [-3.0], [3.0]], dtype=torch.float64)
    found = measure(Lines(rows, torch.sign, directions=2, pairs=200_000, points=2, reach=reach, block=2**18))
    share = math.erf(reach / 2**0.5) / reach / (2 / math.pi) ** 0.5
    assert found["bound_share"] == pytest.approx(share, rel=0.01)
    assert found["gradient"] == 1
    assert found["smoothed_span"] == pytest.approx(share * (2 / math.pi) ** 0.5 / 5**0.5, rel=0.01)
    assert found["spread"] == pytest.approx(5**0.5)


def test_a_kink_attains_the_bound_in_the_limit_of_no_reach() -> None:
    """In any dimension, along the one direction of two replicas."""
    rows = torch.zeros(2, D, dtype=torch.float64)
    rows[1, 0] = 2.0
    kink = along_the_first(lambda x: torch.sign(x - 1))
    found = measure(Lines(rows, kink, directions=1, pairs=400_000, points=2, reach=0.05, block=2**16))
    assert found["bound_share"] == pytest.approx(1, abs=0.02)
    assert found["ratio_off"] is None  # there is nothing to change off the span
    assert found["lipschitz_off"] == 0


def test_the_bound_holds_along_every_direction_of_the_cosines() -> None:
    for scale in (0.25, 1.0, 4.0):
        found = measure(Lines(replicas(), cosines(), scale=scale, pairs=512))
        assert found["bound_failures"] == 0
        assert 0 < found["bound_share"] < 1


def test_a_failure_of_the_bound_would_be_counted() -> None:
    """A gradient that jumps at every draw of the noise: what its few draws average is no Gaussian's average."""
    rows = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    draws = Lines(rows, torch.sign, pairs=8).noise.pair_draws(0, 8)[:, 0]

    def jumps(x: Tensor) -> Tensor:
        return torch.sign(x - draws[(x - draws).abs().argmin(dim=1)][:, None])

    found = measure(Lines(rows, jumps, directions=3, pairs=8, points=2, reach=1e-4))
    assert found["bound_failures"] == 3
    assert found["bound_share"] == pytest.approx((math.pi / 2) ** 0.5 / 1e-4)


def test_the_form_in_the_bound_is_that_of_the_dense_inverse() -> None:
    lines = Lines(replicas(), cosines())
    inverse = torch.linalg.pinv(xi_of(lines.rows), hermitian=True, rtol=1e-10)
    for line in lines.span_lines():
        assert lines.noise.inverse_form(line.u) == pytest.approx(float(line.u @ inverse @ line.u), rel=1e-8)


def test_the_lines_lie_in_the_span_and_beside_it_with_the_spread_of_the_replicas() -> None:
    lines = Lines(replicas(), cosines(), reach=2.0, scale=3.0)
    xi = 9 * xi_of(lines.rows)
    onto_span = torch.linalg.pinv(xi, hermitian=True, rtol=1e-10) @ xi
    for line, beside in zip(lines.span_lines(), lines.off_lines(), strict=True):
        assert float((onto_span @ line.u - line.u).norm()) < 1e-10
        assert float((onto_span @ beside.u).norm()) < 1e-10
        assert float(line.u.norm()) == pytest.approx(1) == float(beside.u.norm())
        assert line.half == pytest.approx(2 * float(line.u @ xi @ line.u) ** 0.5) == beside.half


def test_the_ratio_is_the_product_of_the_surroundings_and_what_cancels() -> None:
    found = measure(Lines(replicas(), cosines(), directions=1))
    for where in ("span", "off"):
        product = found[f"surroundings_{where}"] * found[f"cancelling_{where}"]
        assert found[f"ratio_{where}"] == pytest.approx(product, rel=1e-12)
        assert found[f"cancelling_{where}"] < 1


def test_a_scale_is_the_same_as_replicas_so_far_apart() -> None:
    rows = replicas()
    stretched = rows.mean(dim=0) + 3 * (rows - rows.mean(dim=0))
    assert measure(Lines(rows, cosines(), scale=3.0)) == pytest.approx(measure(Lines(stretched, cosines())))


def test_smoothing_grows_with_the_scale_where_waves_are_all_there_is() -> None:
    ratios = [measure(Lines(replicas(), cosines(), scale=scale))["ratio_span"] for scale in (0.25, 0.5, 1.0)]
    assert 1 > ratios[0] > ratios[1] > ratios[2]


def test_the_order_of_the_replicas_matters_no_more_than_other_draws() -> None:
    rows = replicas()
    one, two = (measure(Lines(r, cosines(), 64, 256)) for r in (rows, rows[[3, 1, 4, 0, 2]]))
    assert one != two
    for name in ("ratio_span", "cancelling_span", "lipschitz_span", "spread"):
        assert two[name] == pytest.approx(one[name], rel=0.15)
    assert two["rank"] == one["rank"] == 4


def test_where_the_span_is_everything_there_is_no_direction_off_it() -> None:
    found = measure(Lines(replicas(2 * D), cosines()))
    assert found["rank"] == D
    assert {found[name] for name in found if "_off" in name} == {None}
    assert found["ratio_span"] is not None


def test_points_are_evaluated_a_few_at_a_time() -> None:
    asked: list[int] = []

    def grads(rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return cosines()(rows)

    whole = measure(Lines(replicas(), cosines(), directions=2, pairs=40, block=10_000))
    parts = measure(Lines(replicas(), grads, directions=2, pairs=40, block=24))
    assert parts == pytest.approx(whole, rel=1e-9)
    assert max(asked) <= 24
    assert sum(asked) == 2 * 2 * 5 * (1 + 2 * 40)


def trained(*metrics: Smoothing, **changes: Any) -> list[dsgd.metrics.Values]:
    topology = Static(Topology("ring", 4))
    run = dsgd.Run(model=Mlp((8,)), topology=topology, batch_size=4, steps=10, seed=3, metrics=metrics)
    return dsgd.train(replace(run, **changes)).history


def test_the_metric_is_the_measurement_on_the_first_training_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dsgd.metrics.Snapshot] = []

    class Seen(Smoothing):
        def __call__(self, snapshot: dsgd.metrics.Snapshot) -> dsgd.metrics.Values:
            seen.append(snapshot)
            return super().__call__(snapshot)

    row = trained(Seen(examples=40, directions=2, pairs=8))[-1]  # type: ignore[arg-type]
    (snapshot,) = seen
    x, y = snapshot.train.x[:40].double(), snapshot.train.y[:40]

    def grad(w: Tensor) -> Tensor:
        return torch.func.grad(lambda p: snapshot.network.losses(p, x, y).mean())(w)

    rows = snapshot.params.matrix.double()
    expected = measure(Lines(rows, lambda at: torch.stack([grad(w) for w in at]), 2, 8, seed=3))
    assert row == {"step": 10, "lr": row["lr"], "bytes_sent": row["bytes_sent"]} | {
        f"smoothing_{name}": pytest.approx(value, rel=1e-8) for name, value in expected.items()
    }

    whole = Smoothing(40, 2, 8)(snapshot)
    monkeypatch.setattr(equivalence, "EXAMPLES_AT_ONCE", 3 * 40)
    assert Smoothing(40, 2, 8).lines(snapshot).block == 3
    assert Smoothing(40, 2, 8)(snapshot) == pytest.approx(whole, rel=1e-9)


def test_a_run_can_have_several_scales_and_noises() -> None:
    metrics = [Smoothing(16, 1, 8, scale=scale) for scale in (0.25, 1.0)]
    row = trained(*metrics, Smoothing(16, 1, 8, isotropic=True))[-1]
    assert {"smoothing_x0.25_ratio_span", "smoothing_ratio_span", "isotropic_smoothing_ratio_off"} <= row.keys()
    assert row["smoothing_x0.25_spread"] == pytest.approx(row["smoothing_spread"] / 4)
    assert row["isotropic_smoothing_lipschitz_span"] == row["smoothing_lipschitz_span"]
    assert row["isotropic_smoothing_smoothed_span"] != row["smoothing_smoothed_span"]


def test_equal_replicas_have_the_same_names_and_no_values() -> None:
    start, end = trained(Smoothing(16, 1, 8, every=10))
    names = [name for name in end if name.startswith("smoothing")]
    assert len(names) > 20
    assert [start[name] for name in names] == [None] * len(names)
    assert None not in [end[name] for name in names]


def test_the_quadratic_landscape_is_not_smoothed_by_a_runs_own_noise() -> None:
    model, topology = Quadratic(60, (0.1, 1.0, 2.0)), Static(Topology("ring", 8))
    run = {"task": Task(NoData()), "model": model, "topology": topology, "batch_size": "full", "gradient_noise": 1.0}
    row = trained(Smoothing(), **run)[-1]
    assert row["smoothing_rank"] == 7
    for name in ("ratio_span", "ratio_off", "cancelling_span"):
        assert row[f"smoothing_{name}"] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"examples": 0}, "examples is 0; it must be at least 1$"),
        ({"directions": 0}, "directions is 0; it must be at least 1$"),
        ({"pairs": 7}, "pairs is 7; it must be at least 8$"),
        ({"points": 1}, "points is 1; it must be at least 2$"),
        ({"reach": 0.0}, "reach is 0.0; it must be above 0, and finite$"),
        ({"scale": math.nan}, "scale is nan; it must be above 0, and finite$"),
        ({"scale": math.inf}, "scale is inf; it must be above 0, and finite$"),
        ({"every": -1}, "every is -1; it must be at least 0 steps"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Smoothing(**knobs)
