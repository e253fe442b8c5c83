"""What is measured of predictions, against the same computed by hand from each model's own logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dsgd.backends.local import LocalBackend
from dsgd.communicators import Local
from dsgd.data import Digits, NoData
from dsgd.gradients.plain import Plain
from dsgd.kernels import network
from dsgd.metrics import Accuracy, Snapshot, Split, Uncertainty, calibration, members
from dsgd.metrics.metric import Values
from dsgd.models import Mlp, Quadratic
from dsgd.objectives import Batch
from dsgd.perturbations import cloud
from dsgd.randomness import generator
from dsgd.run import Run
from dsgd.simulation import Simulation
from dsgd.tasks import Task
from dsgd.trees import Layout, Params

Make = Callable[..., Run]
CPU = torch.device("cpu")
DRAWN = ("xi", "isotropic", "leafwise")
FEW = Uncertainty(samples=5, scales=(0.5, 2.0))


def after(run: Run, steps: int = 20) -> Snapshot:
    simulation = Simulation(run, Local(run.n), CPU)
    world = simulation.start()
    for _ in range(steps):
        world = simulation.advance(world)
    found = simulation.snapshot(world)
    assert found
    return found


def number(values: Values, name: str) -> float:
    value = values[name]
    assert isinstance(value, float), name
    return value


def probabilities(snapshot: Snapshot, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Of each row (rows, N, classes), one at a time."""
    judged = snapshot.judged()
    with torch.no_grad():
        return torch.stack([judged.network.logits(row, x).double().softmax(dim=1) for row in rows])


def test_mean_model_and_replicas_are_scored_as_by_hand(small: Make) -> None:
    snapshot = after(small())
    values, y = FEW(snapshot), snapshot.test.y.numpy()
    p = probabilities(snapshot, snapshot.params.matrix, snapshot.test.x)
    mean = probabilities(snapshot, snapshot.params.matrix.mean(dim=0, keepdim=True), snapshot.test.x)[0].numpy()
    average = p.mean(dim=0).numpy()
    information = torch.special.entr(p.mean(dim=0)).sum(dim=1) - torch.special.entr(p).sum(dim=2).mean(dim=0)
    for name, table in (("mean_model", mean), ("replicas", average)):
        for score in (calibration.accuracy, calibration.nll, calibration.brier, calibration.ece):
            assert values[f"{score.__name__}_{name}"] == pytest.approx(score(table, y), rel=1e-12)
        wrong = table.argmax(axis=1) != y
        entropies = -(table * np.log(table)).sum(axis=1)
        assert values[f"error_auroc_entropy_{name}"] == calibration.auroc(entropies, wrong)
    assert values["information_replicas"] == pytest.approx(float(information.mean()), rel=1e-9)
    wrong = average.argmax(axis=1) != y
    assert values["error_auroc_information_replicas"] == pytest.approx(calibration.auroc(information.numpy(), wrong))
    assert not any("information" in name and "mean_model" in name for name in values)
    losses = Accuracy()(snapshot)
    assert values["nll_mean_model"] == pytest.approx(losses["test_loss_mean_model"], rel=1e-12)
    assert values["accuracy_mean_model"] == losses["test_accuracy_mean_model"]
    assert number(values, "nll_replicas") < number(losses, "test_loss_replicas_mean")


def test_each_half_is_calibrated_by_the_temperature_of_the_other(small: Make) -> None:
    snapshot = after(small(seed=5))
    values, y = FEW(snapshot), snapshot.test.y.numpy()
    p = probabilities(snapshot, snapshot.params.matrix, snapshot.test.x).mean(dim=0).numpy()
    first = generator(5, "uncertainty", "halves").permutation(360) < 180
    temperatures = [calibration.fitted_temperature(p[half], y[half]) for half in (first, ~first)]
    calibrated = np.where(
        first[:, None], calibration.tempered(p, temperatures[1]), calibration.tempered(p, temperatures[0])
    )
    assert values["temperature_replicas"] == pytest.approx(math.sqrt(math.prod(temperatures)), rel=1e-9)
    assert values["nll_calibrated_replicas"] == pytest.approx(calibration.nll(calibrated, y), rel=1e-9)
    assert values["ece_calibrated_replicas"] == pytest.approx(calibration.ece(calibrated, y), rel=1e-9)
    assert temperatures[0] != temperatures[1]


def test_draws_are_averaged_around_the_mean_model(small: Make) -> None:
    snapshot = after(small())
    values, y = FEW(snapshot), snapshot.test.y.numpy()
    mean = snapshot.params.matrix.mean(dim=0)
    found = members.offsets(snapshot.params, snapshot.seed, 5)
    assert tuple(found) == DRAWN
    for name, offsets in found.items():
        p = probabilities(snapshot, mean + offsets(0, 5), snapshot.test.x).mean(dim=0).numpy()
        assert values[f"nll_{name}"] == pytest.approx(calibration.nll(p, y), rel=1e-10)


def test_a_scale_is_fitted_on_one_half_and_judged_on_the_other(small: Make) -> None:
    snapshot = after(small())
    values, y = FEW(snapshot), snapshot.test.y.numpy()
    mean, offsets = snapshot.params.matrix.mean(dim=0), members.offsets(snapshot.params, 0, 5)["isotropic"](0, 5)
    first = generator(0, "uncertainty", "halves").permutation(360) < 180
    tables = {
        scale: probabilities(snapshot, mean + scale * offsets, snapshot.test.x).mean(dim=0).numpy()
        for scale in (0.5, 2.0)
    }
    chosen = [min(tables, key=lambda scale: calibration.nll(tables[scale][half], y[half])) for half in (first, ~first)]
    p = np.where(first[:, None], tables[chosen[1]], tables[chosen[0]])
    assert values["scale_isotropic_scaled"] == pytest.approx(math.sqrt(math.prod(chosen)))
    assert values["nll_isotropic_scaled"] == pytest.approx(calibration.nll(p, y), rel=1e-10)


def test_at_a_scale_of_one_scaled_draws_are_the_draws(small: Make) -> None:
    values = Uncertainty(samples=5, scales=(1.0,))(after(small()))
    for name in DRAWN:
        scaled = {key: value for key, value in values.items() if key.endswith(f"_{name}_scaled")}
        assert scaled.pop(f"scale_{name}_scaled") == 1.0
        assert len(scaled) == 8
        assert {key: values[key.removesuffix("_scaled")] for key in scaled} == scaled


def test_draws_have_the_covariance_that_they_are_named_for() -> None:
    rows = torch.from_numpy(generator(0, "test").standard_normal((4, 6))) * torch.tensor([3.0, 1, 1, 1, 0.1, 0.1])
    p = Params(rows, Layout(("a", "b"), ((4,), (2,))))
    deviations = rows - rows.mean(dim=0)
    xi = deviations.T @ deviations / 4
    of_leaves = [xi.diagonal()[:4].mean()] * 4 + [xi.diagonal()[4:].mean()] * 2
    expected = {
        "xi": xi,
        "isotropic": torch.eye(6, dtype=torch.float64) * xi.trace() / 6,
        "leafwise": torch.diag(torch.stack(of_leaves)),
    }
    for name, offsets in members.offsets(p, 0, 40_000).items():
        drawn = offsets(0, 40_000)
        found = drawn.T @ drawn / 40_000
        assert float((found - expected[name]).norm()) < 0.03 * float(expected[name].norm()), name
        torch.testing.assert_close(offsets(7, 9), drawn[7:9], rtol=1e-12, atol=1e-14)
    assert float(cloud(rows).trace) == pytest.approx(float(xi.trace()))


def test_numbering_the_replicas_otherwise_changes_nothing(small: Make) -> None:
    snapshot = after(small(n=6))
    permuted = replace(snapshot, params=snapshot.params.like(snapshot.params.matrix[torch.tensor([3, 1, 5, 0, 2, 4])]))
    assert FEW(permuted) == pytest.approx(FEW(snapshot), rel=1e-9, abs=1e-12)


def test_blocks_bound_the_memory_and_change_nothing(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = after(small())
    whole = FEW(snapshot)
    monkeypatch.setattr(members, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(members, "EXAMPLES_AT_ONCE", 50)
    sizes: list[tuple[int, int]] = []
    logits = Batch.logits
    monkeypatch.setattr(Batch, "logits", lambda self, p: (sizes.append((p.rows, len(self.x))), logits(self, p))[1])
    assert FEW(snapshot) == pytest.approx(whole, rel=1e-9, abs=1e-12)
    assert (max(rows for rows, _ in sizes), max(examples for _, examples in sizes)) == (3, 50)


def test_replicas_that_are_equal_disagree_about_nothing(small: Make) -> None:
    snapshot = after(small(graph="complete", algorithm="adapt_then_combine", dtype="float32"))
    values = FEW(snapshot)
    for name in ("replicas", *DRAWN):
        assert values[f"information_{name}"] == 0
        assert {values[key] for key in values if "auroc" in key and key.endswith(f"information_{name}")} == {0.5}
        assert values[f"nll_{name}"] == pytest.approx(values["nll_mean_model"], rel=1e-5)
    assert values["scale_xi_scaled"] is None


def test_one_replica_is_the_mean_model(small: Make) -> None:
    values = FEW(after(small(n=1)))
    assert values["information_replicas"] == 0
    assert values["nll_replicas"] == values["nll_mean_model"]


def test_twins_are_predictors_by_their_names(small: Make) -> None:
    snapshot = after(small(twins=(Plain(),)))
    values = FEW(snapshot)
    assert values["nll_centralized"] == pytest.approx(Accuracy()(snapshot)["centralized_test_loss"], rel=1e-12)
    assert "error_auroc_information_centralized" not in values


def test_without_samples_there_are_no_draws(small: Make) -> None:
    values = Uncertainty(samples=0)(after(small()))
    assert {name.removeprefix("nll_") for name in values if name.startswith("nll_") and "calib" not in name} == {
        "mean_model",
        "replicas",
    }


def test_models_with_batch_normalisation_are_judged_by_their_running_statistics(small: Make) -> None:
    snapshot = after(small(model=Mlp((8,), norm="batch"), batch_size=8))
    values, judged = FEW(snapshot), snapshot.judged()
    assert values["nll_mean_model"] == pytest.approx(Accuracy()(snapshot)["test_loss_mean_model"], rel=1e-12)
    d = snapshot.params.layout.d
    rows = judged.mean.matrix.repeat(5, 1)
    rows[:, :d] += members.offsets(snapshot.params, 0, 5)["xi"](0, 5)
    p = probabilities(snapshot, rows, snapshot.test.x).mean(dim=0).numpy()
    assert values["nll_xi"] == pytest.approx(calibration.nll(p, snapshot.test.y.numpy()), rel=1e-10)
    assert rows.shape[1] > d


def blind(images: torch.Tensor, y: torch.Tensor) -> Snapshot:
    """Two models of 3 x 3 images that differ by what they make of the top left pixel alone, in float64."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 2, bias=False)).double()
    net = network(module, "cross_entropy")
    matrix = torch.zeros(2, 18, dtype=torch.float64)
    matrix[:, 4], matrix[:, 13] = 1.0, -1.0
    matrix[0, 0], matrix[1, 0] = 3.0, -3.0
    split = Split(images, y)
    return Snapshot(0, Params(matrix, net.layout), net, split, split)


def test_what_only_shifted_inputs_show_finds_all_of_them() -> None:
    """The top right pixel, which a quarter turn takes to the top left, and noise, which is everywhere."""
    images = torch.zeros(40, 1, 3, 3, dtype=torch.float64)
    images[:, 0, 0, 2] = 1.0
    images[:, 0, 1, 1] = torch.linspace(-1, 1, 40)
    y = (torch.arange(40) < 20).long()
    values = Uncertainty(samples=8)(blind(images, y))
    assert values["information_replicas"] == pytest.approx(0, abs=1e-15)
    assert values["error_auroc_information_replicas"] is None
    assert values["ood_auroc_rotated_information_replicas"] == 1.0
    assert number(values, "ood_auroc_rotated_information_xi") == 1.0
    assert number(values, "ood_auroc_noisy_information_replicas") > 0.95
    assert values["information_xi"] == pytest.approx(0, abs=1e-15)
    assert number(values, "information_isotropic") > 0.01


def test_noise_is_measured_in_spreads_of_the_inputs() -> None:
    """The entropy falls with the one pixel that is seen, so noise makes it lower; a pixel's unit is nothing."""
    images = torch.zeros(500, 1, 3, 3, dtype=torch.float64)
    images[:, 0, 1, 1] = torch.linspace(-1, 1, 500)
    y = torch.zeros(500, dtype=torch.int64)

    def found(noise: float, unit: float = 1.0) -> float:
        values = Uncertainty(samples=0, noise=noise)(blind(images * unit, y))
        return number(values, "ood_auroc_noisy_entropy_mean_model")

    assert found(1e-9) == pytest.approx(0.5, abs=1e-3)
    assert 0.5 > found(1.0) > found(10.0)
    assert found(1.0, unit=7.0) == pytest.approx(found(1.0), abs=1e-9)


def test_inputs_that_are_no_square_images_are_not_turned(small: Make) -> None:
    snapshot = after(small())
    flat = replace(snapshot, test=Split(snapshot.test.x.flatten(1), snapshot.test.y))
    values, images = FEW(flat), FEW(snapshot)
    assert {name for name in images if name not in values} == {name for name in images if "rotated" in name}
    assert values["nll_xi"] == images["nll_xi"]


def test_a_loss_without_classes_has_no_probabilities() -> None:
    run = Run(task=Task(NoData()), model=Quadratic(4), batch_size="full", steps=1)
    assert FEW(after(run, 1)) == {}


def test_at_the_end_of_a_run_alone_unless_asked(small: Make) -> None:
    run = small(task=Task(Digits(train_size=64)), steps=4, measure_every=2, metrics=(Accuracy(), FEW))
    history = LocalBackend("cpu").train(run).history
    assert ["nll_xi" in row for row in history] == [False, False, True]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": -1}, "samples is -1; it must be at least 0$"),
        ({"bins": 0}, "bins is 0; it must be at least 1$"),
        ({"scales": (1.0, 1.0)}, r"scales is \[1.0, 1.0\]; they must rise, above 0 and finite$"),
        ({"scales": (1.0, math.inf)}, r"scales is \[1.0, inf\]; they must rise, above 0 and finite$"),
        ({"scales": (math.nan,)}, r"scales is \[nan\]; they must rise, above 0 and finite$"),
        ({"scales": (1.0, math.nan, 2.0)}, "they must rise, above 0 and finite$"),
        ({"scales": (0.0, 1.0)}, "must rise, above 0"),
        ({"noise": 0.0}, "noise is 0.0; it must be above 0 and finite"),
        ({"noise": math.inf}, "noise is inf"),
        ({"every": -1}, "every is -1"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Uncertainty(**wrong)
