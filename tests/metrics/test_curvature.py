"""Curvature, sharpness and gradient noise against dense matrices, loops and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dsgd.curvature import Hessian, Spectrum, top_eigenvalues, trace_samples
from dsgd.data import NoData
from dsgd.gradients.plain import Plain
from dsgd.learning_rates import Constant
from dsgd.metrics import Accuracy, Curvature, GradientNoise, Sharpness, Snapshot, Values
from dsgd.metrics.probe_loss import ProbeLoss, probe_losses
from dsgd.models import Mlp, Quadratic, ResNet8
from dsgd.perturbations import cloud
from dsgd.run import Run
from dsgd.statistics import log_slope, mean_interval
from dsgd.tasks import Task

Make = Callable[..., Run]
Snapshots = Callable[[Run], Snapshot]

CURVED = tuple(float(h) for h in range(1, 41))  # of a quadratic of 40 parameters


@pytest.fixture
def trained(small: Make, snapshot_of: Snapshots) -> Snapshot:
    """Four replicas of 610 parameters, and their centralised twin."""
    return snapshot_of(small(twins=(Plain(),), learning_rate=Constant(0.5)))


def dense(loss: ProbeLoss) -> Tensor:
    """Column by column: torch.func.hessian, whose columns are vmapped, is 2 % off for layer normalisation (2.13)."""
    return sum((torch.autograd.functional.hessian(part, loss.point) for part in loss.parts), torch.zeros(()).double())


def on_a_quadratic(small: Make, snapshot_of: Snapshots, n: int = 4) -> Snapshot:
    model, noise = Quadratic(len(CURVED), CURVED), 1.0
    run = small(n=n, task=Task(NoData()), model=model, batch_size="full", gradient_noise=noise)
    return snapshot_of(replace(run, learning_rate=Constant(0.02)))


def test_what_is_reported_is_what_the_dense_hessian_has(trained: Snapshot) -> None:
    found = Curvature(eigenvalues=3, probes=64)(trained)
    for name, loss in probe_losses(trained, 64).items():
        H, before = dense(loss), f"{name}_" if name else ""
        assert H.shape == (610, 610)
        top = torch.linalg.eigvalsh(H).flip(0)[:3].tolist()
        assert found[f"{before}hessian_eigenvalues"] == pytest.approx(top, rel=1e-6)
        assert found[f"{before}lambda_max"] == pytest.approx(top[0], rel=1e-6)
        lo, trace, hi = (found[f"{before}hessian_trace{end}"] for end in ("_lo", "", "_hi"))
        assert lo < float(H.trace()) < hi  # type: ignore[operator]
        assert hi - lo < 0.2 * trace  # type: ignore[operator]
    H, spread = dense(probe_losses(trained, 64)[""]), cloud(trained.params.matrix)
    xi = spread.deviations.T @ spread.deviations / 4
    values, vectors = torch.linalg.eigh(H)
    span = torch.linalg.qr(spread.deviations[:3].T)[0]
    assert found["half_trace_h_xi"] == pytest.approx(float((H @ xi).trace()) / 2, rel=1e-9)
    assert found["alignment"] == pytest.approx(float((H @ xi).trace() / (xi.trace() * values[-1])), rel=1e-6)
    normalised = 610 * float((H @ xi).trace()) / (float(xi.trace()) * found["hessian_trace"])  # type: ignore[operator]
    assert found["alignment_normalised"] == pytest.approx(normalised, rel=1e-9)
    assert found["effective_rank"] == pytest.approx(float(xi.trace() ** 2 / (xi @ xi).trace()), rel=1e-9)
    assert found["span_overlap"] == pytest.approx(float((span.T @ vectors[:, -3:]).square().sum() / 3), rel=1e-5)
    inside = vectors[:, -3:].T @ xi @ vectors[:, -3:]
    assert found["xi_in_top"] == pytest.approx(float(inside.trace() / xi.trace()), rel=1e-5)


def test_a_residual_bounds_the_error_of_its_eigenvalue(trained: Snapshot) -> None:
    loss = probe_losses(trained, 64)[""]
    exact = torch.linalg.eigvalsh(dense(loss))
    found = top_eigenvalues(loss.hessian, 5)
    assert torch.allclose(found.vectors @ found.vectors.T, torch.eye(5).double(), atol=1e-8)
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert (exact - value).abs().min() <= residual + 1e-12
        assert residual < 1e-4 * found.values[0]
    rough = top_eigenvalues(Hessian([lambda w: (w**4).sum()], torch.arange(1.0, 61).double()), 60)
    assert len(rough.values) == 60  # all of them, by the dense matrix


def test_what_has_not_converged_is_not_there(trained: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsgd.curvature.MOST_ITERATIONS", 1)
    monkeypatch.setattr("dsgd.curvature.TOLERANCE", 1e-15)
    found = Curvature(eigenvalues=8)(trained)
    assert len(found["hessian_eigenvalues"]) < 8  # type: ignore[arg-type]
    assert found["half_trace_h_xi"] > 0  # type: ignore[operator]
    empty = Spectrum(torch.zeros(0).double(), torch.zeros(0, 610).double(), torch.zeros(0).double())
    monkeypatch.setattr("dsgd.metrics.curvature.top_eigenvalues", lambda *_: empty)
    none = Curvature()(trained)
    assert none["lambda_max"] is None
    assert none["alignment"] is None
    assert none["hessian_trace"] > 0  # type: ignore[operator]


def test_a_loss_that_is_flat_has_no_curvature() -> None:
    """As that of a network that is far too sure of itself; ARPACK refuses it."""
    found = top_eigenvalues(Hessian([lambda w: (0 * w).sum()], torch.ones(50).double()), 3)
    assert found.values.tolist() == found.residuals.tolist() == [0, 0, 0]
    assert torch.equal(found.vectors @ found.vectors.T, torch.eye(3).double())


def test_the_trace_is_unbiased_and_known_directions_are_exact() -> None:
    A = torch.randn(50, 50, dtype=torch.float64)
    A = A @ A.T
    hessian = Hessian([lambda w: w @ A @ w / 2], torch.zeros(50).double())
    plain, aided = (trace_samples(hessian, 400, 0, known) for known in (None, top_eigenvalues(hessian, 10).vectors))
    for samples in (plain, aided):
        interval = mean_interval(samples.tolist(), 0.999)
        assert interval.lo is not None
        assert interval.hi is not None
        assert interval.lo < float(A.trace()) < interval.hi
    assert aided.var() < plain.var() / 2
    exact = trace_samples(hessian, 2, 0, top_eigenvalues(hessian, 50).vectors)
    assert exact.tolist() == pytest.approx([float(A.trace())] * 2, rel=1e-9)


def test_a_loss_in_parts_has_the_numbers_of_the_whole(trained: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = (Curvature(), Sharpness(), GradientNoise())
    whole = [metric(trained) for metric in metrics]
    monkeypatch.setattr("dsgd.metrics.probe_loss.EXAMPLES_AT_ONCE", 7)
    monkeypatch.setattr("dsgd.metrics.probe_loss.ACTIVATIONS_AT_ONCE", 20)
    for metric, once in zip(metrics, whole, strict=True):
        for name, value in metric(trained).items():
            assert value == pytest.approx(once[name], rel=1e-8, abs=1e-12), name


def test_no_product_takes_more_examples_than_a_part(trained: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsgd.metrics.probe_loss.EXAMPLES_AT_ONCE", 10)
    loss, seen = probe_losses(trained, 64)[""], []
    found = type(loss)._losses_at
    monkeypatch.setattr(
        type(loss), "_losses_at", lambda self, row, x, y: (seen.append(len(x)), found(self, row, x, y))[1]
    )
    loss.hessian.products(torch.randn(3, 610).double())
    assert max(seen) == 10
    assert sum(seen) == 64


@pytest.mark.parametrize("metric", [Curvature(eigenvalues=2), Sharpness(), GradientNoise()])
def test_the_order_of_the_replicas_is_nothing_to_them(trained: Snapshot, metric: Callable[[Snapshot], Values]) -> None:
    turned = replace(trained, params=trained.params.like(trained.params.matrix[[2, 0, 3, 1]]))
    for name, value in metric(turned).items():
        drawn = name.startswith("sharpness_xi")
        assert value == pytest.approx(metric(trained)[name], rel=0.5 if drawn else 1e-6), name


@pytest.mark.parametrize("model", [Mlp((8,), "relu", norm="batch"), Mlp((8,), norm="layer")])
def test_with_normalisation_it_is_the_curvature_of_the_judged_model(
    small: Make, snapshot_of: Snapshots, model: Mlp
) -> None:
    snapshot = snapshot_of(small(model=model, batch_size=8, twins=(Plain(),)))
    d = snapshot.network.layout.d
    judged = Accuracy(train_examples=64)(snapshot)
    for name, loss in probe_losses(snapshot, 64).items():
        assert len(loss.point) == d
        before = f"{name}_train_loss" if name else "train_loss_mean_model"
        assert float(loss.losses(loss.point[None])) == pytest.approx(judged[before], rel=1e-9)
        top = float(torch.linalg.eigvalsh(dense(loss))[-1])
        assert top_eigenvalues(loss.hessian).values[0] == pytest.approx(top, rel=1e-6)
        by_hand = torch.func.grad(lambda row, loss=loss: sum(part(row) for part in loss.parts))(loss.point)
        torch.testing.assert_close(loss.gradients(loss.point[None])[0], by_hand, rtol=1e-9, atol=1e-12)
    assert Sharpness()(snapshot)["sharpness_ascent"] > 0  # type: ignore[operator]
    assert GradientNoise()(snapshot)["gradient_variance"] > 0  # type: ignore[operator]


def test_a_residual_network_has_curvature(small: Make, snapshot_of: Snapshots) -> None:
    snapshot = snapshot_of(small(model=ResNet8(activation="gelu"), n=2, steps=2))
    found = Curvature(examples=8, probes=2)(snapshot)
    loss = probe_losses(snapshot, 8)[""]
    direction = torch.randn(1, len(loss.point)).double()
    step = 1e-5
    there, back = (loss.gradients(loss.point + sign * step * direction) for sign in (1, -1))
    difference = (there - back) / (2 * step)
    assert (loss.hessian.products(direction) - difference).norm() < 1e-5 * difference.norm()
    assert found["hessian_residuals"][0] < 1e-3 * found["lambda_max"]  # type: ignore[index, operator]


def test_on_a_quadratic_all_is_known(small: Make, snapshot_of: Snapshots) -> None:
    snapshot = on_a_quadratic(small, snapshot_of)
    h, spread = torch.tensor(CURVED).double(), cloud(snapshot.params.matrix)
    found = Curvature(eigenvalues=2, probes=2)(snapshot)
    exact = float((spread.deviations.square() @ h).mean()) / 2
    assert found["hessian_eigenvalues"] == pytest.approx([40, 39])
    assert found["hessian_trace"] == pytest.approx(sum(CURVED))  # of a diagonal matrix every Rademacher form is exact
    assert found["half_trace_h_xi"] == pytest.approx(exact, rel=1e-12)
    many = Sharpness(samples=4000)(snapshot)
    assert many["sharpness_xi_lo"] < exact < many["sharpness_xi_hi"]  # type: ignore[operator]
    gram = spread.deviations * h @ spread.deviations.T / 4  # its squares sum to tr (H Xi)^2
    width = 1.96 * float((gram.square().sum() / 2 / 4000) ** 0.5)  # of 4,000 pairs, whose linear terms cancel
    assert (many["sharpness_xi_hi"] - many["sharpness_xi_lo"]) / 2 == pytest.approx(width, rel=0.1)  # type: ignore[operator]
    isotropic = float(spread.trace) * sum(CURVED) / 40 / 2
    assert many["sharpness_isotropic_lo"] < isotropic < many["sharpness_isotropic_hi"]  # type: ignore[operator]
    assert many["sharpness_average"] == pytest.approx(0.05**2 * sum(CURVED) / 40 / 2, rel=0.02)
    w = snapshot.params.matrix.mean(dim=0)
    u = h * w / (h * w).norm()
    assert many["sharpness_ascent"] == pytest.approx(float(0.05 * (h * w).norm() + 0.05**2 * (h * u * u).sum() / 2))


def test_equal_replicas_have_no_alignment(small: Make, snapshot_of: Snapshots) -> None:
    snapshot = snapshot_of(small(graph="complete", algorithm="adapt_then_combine"))
    found = Curvature()(snapshot)
    assert found["half_trace_h_xi"] == pytest.approx(0, abs=1e-20)
    assert found["lambda_max"] > 0  # type: ignore[operator]
    same = replace(snapshot, params=snapshot.params.like(snapshot.params.matrix[:1].expand(4, -1)))
    assert Curvature()(same)["alignment"] is None
    assert Sharpness()(same)["sharpness_xi"] == 0


def test_the_gradients_scatter_as_a_loop_finds(trained: Snapshot) -> None:
    found = GradientNoise()(trained)
    for name, loss in probe_losses(trained, 64).items():
        x, y, before = loss.split.x, loss.split.y, f"{name}_" if name else ""

        def gradient(i: int, loss: ProbeLoss = loss, x: Tensor = x, y: Tensor = y) -> Tensor:
            return torch.func.grad(lambda row: loss.network.losses(row, x[i : i + 1], y[i : i + 1])[0])(loss.point)

        rows = torch.stack([gradient(i) for i in range(64)])
        variance, squared = float(rows.var(dim=0, unbiased=False).sum()), float(rows.mean(dim=0).square().sum())
        assert found[f"{before}gradient_variance"] == pytest.approx(variance, rel=1e-9)
        assert found[f"{before}gradient_norm_squared"] == pytest.approx(squared, rel=1e-9)


def test_the_replicas_lose_more_than_their_mean_by_half_the_trace_of_h_xi(trained: Snapshot) -> None:
    """mean_j L(w_j) - L(mean) = tr(H Xi) / 2 + O(s^3) in the scale s of the deviations."""
    loss, spread = probe_losses(trained, 64)[""], cloud(trained.params.matrix)
    half = Curvature()(trained)["half_trace_h_xi"]
    assert isinstance(half, float)
    scales = [2.0**-k for k in range(5, 10)]
    gaps = [
        abs(
            float((loss.losses(loss.point + s * spread.deviations) - loss.losses(loss.point[None])).mean())
            - s**2 * half
        )
        for s in scales
    ]
    assert log_slope(scales, gaps) == pytest.approx(3, abs=0.2)


def test_work_is_linear_in_the_probe_set(trained: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many examples pass through the network: for 64 twice as many as for 32, and no Hessian is ever formed."""
    products: list[int] = []
    found = Hessian.products
    monkeypatch.setattr(Hessian, "products", lambda self, v: (products.append(len(v)), found(self, v))[1])
    Curvature(examples=32, probes=4)(trained)
    few = sum(products)
    products.clear()
    Curvature(examples=64, probes=4)(trained)
    assert sum(products) < 2 * few
    assert sum(products) < 610


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curvature(eigenvalues=0), "eigenvalues is 0; it must be at least 1"),
        (lambda: Curvature(probes=1), "probes is 1; it must be at least 2, or 0 for no trace"),
        (lambda: Curvature(examples=0), "examples is 0; it must be at least 1"),
        (lambda: Sharpness(samples=1), "samples is 1; it must be at least 2"),
        (lambda: Sharpness(rho=0.0), "rho is 0.0; it must be greater than 0 and finite"),
        (lambda: GradientNoise(every=-1), "every is -1"),
    ],
)
def test_knobs_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_generalization_gap_is_test_less_train(trained: Snapshot) -> None:
    found = Accuracy()(trained)
    for gap, loss in (
        ("generalization_gap_mean_model", "{}_loss_mean_model"),
        ("centralized_generalization_gap", "centralized_{}_loss"),
    ):
        assert found[gap] == found[loss.format("test")] - found[loss.format("train")]  # type: ignore[operator]
