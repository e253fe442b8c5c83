"""Landscapes against closed forms: parabolas of a quadratic, filters of known norm, replicas that span their plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import dsgd
from dsgd import trees
from dsgd.data import NoData
from dsgd.gradients.plain import Plain
from dsgd.learning_rates import Constant
from dsgd.metrics import Curvature, Landscape, Snapshot
from dsgd.metrics import landscape as landscapes
from dsgd.metrics.accuracy import evaluate
from dsgd.metrics.landscape import coordinates, filter_normalised, landscape, principal_axes
from dsgd.metrics.probe_loss import probe_losses
from dsgd.models import Cnn, Mlp, Quadratic
from dsgd.run import Run
from dsgd.tasks import Task
from dsgd.trees import Layout, Params

Make = Callable[..., Run]
Snapshots = Callable[[Run], Snapshot]

CURVED = tuple(float(h) for h in range(1, 41))


@pytest.fixture
def trained(small: Make, snapshot_of: Snapshots) -> Snapshot:
    """Four replicas of 610 parameters, and their centralised twin."""
    return snapshot_of(small(twins=(Plain(),), learning_rate=Constant(0.5)))


@pytest.fixture
def quadratic(small: Make, snapshot_of: Snapshots) -> Snapshot:
    model = Quadratic(len(CURVED), CURVED)
    run = small(task=Task(NoData()), model=model, batch_size="full", gradient_noise=1.0)
    return snapshot_of(replace(run, learning_rate=Constant(0.02)))


def losses(snapshot: Snapshot, rows: Tensor, examples: int = 1000) -> list[float]:
    """The loss at parameters (k, d), the way accuracy has it."""
    split = snapshot.train.head(examples)
    found: list[float] = evaluate(snapshot.network, snapshot.params.like(rows), split)[0].tolist()
    return found


def numbers(values: Any) -> Any:
    """Nested lists, floats, strings or None, as pytest compares them."""
    return pytest.approx(values, rel=1e-9, abs=1e-12)


def test_values_come_row_by_row_from_below_and_x_is_the_first_direction() -> None:
    centre, directions = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    at = torch.tensor([-1.0, 0.0, 1.0])
    found = landscape(centre, directions, at, lambda rows: rows @ torch.tensor([1.0, 0.0, 100.0]))
    assert found.tolist() == [200.0, 201.0, 202.0, 300.0, 301.0, 302.0, 400.0, 401.0, 402.0]
    line = landscape(centre, directions[:1], at, lambda rows: rows @ torch.tensor([1.0, 0.0, 100.0]))
    assert line.tolist() == [300.0, 301.0, 302.0]


def test_no_more_points_are_held_than_a_block_has(monkeypatch: pytest.MonkeyPatch) -> None:
    centre, directions, at = torch.zeros(5), torch.eye(2, 5), torch.linspace(-1, 1, 7)
    once = landscape(centre, directions, at, lambda rows: rows.square().sum(dim=1))
    monkeypatch.setattr(landscapes, "NUMBERS_AT_ONCE", 20)
    seen: list[int] = []
    blocks = landscape(centre, directions, at, lambda rows: (seen.append(len(rows)), rows.square().sum(dim=1))[1])
    assert (max(seen), sum(seen)) == (4, 49)
    assert torch.equal(blocks, once)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_along_eigenvectors_a_quadratic_is_its_parabolas(quadratic: Snapshot, dimensions: int) -> None:
    found = Landscape("eigenvectors", dimensions, points=5, reach=2.0)(quadratic)
    w = quadratic.params.matrix.mean(dim=0)
    at = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert found["landscape_eigenvectors_at"] == at

    def rise(h: int, s: float) -> float:
        return h * float(w[h - 1]) * s + h * s**2 / 2  # along the axis of curvature h

    centre = float((torch.tensor(CURVED) * w * w).sum() / 2)
    second = at if dimensions == 2 else [0.0]
    expected = [centre + rise(40, x) + rise(39, y) for y in second for x in at]
    assert found["landscape_eigenvectors_loss"] == pytest.approx(expected, rel=1e-6)


def test_by_default_the_first_eigenvectors_parabola_has_risen_by_one_at_the_end(quadratic: Snapshot) -> None:
    at_zero = replace(quadratic, params=quadratic.params.like(quadratic.params.matrix * 0))
    found = Landscape("eigenvectors", 1, points=3)(at_zero)
    assert found["landscape_eigenvectors_at"] == numbers([-((2 / 40**1) ** 0.5) * 1.0, 0.0, (2 / 40) ** 0.5])
    assert found["landscape_eigenvectors_loss"] == numbers([1.0, 0.0, 1.0])


@pytest.mark.parametrize("model", [Mlp((8,), norm="layer"), Cnn((2, 3))], ids=["mlp", "cnn"])
def test_every_filter_of_a_random_direction_is_as_long_as_the_weights_own(
    small: Make, snapshot_of: Snapshots, model: Any
) -> None:
    centre = trees.mean(snapshot_of(small(model=model, steps=2)).params)
    noise = centre.like(torch.randn(2, centre.layout.d, dtype=torch.float64))
    found = centre.like(filter_normalised(noise, centre))
    normalised = trees.normalisation_names(centre)
    assert bool(normalised) == isinstance(model, Mlp)
    filters = [name for name in centre if not name.endswith("bias") and name not in normalised]
    assert len(filters) >= 2
    for name in centre:
        for k in range(2):
            for row, own, drawn in zip(found[name][k], centre[name][0], noise[name][k], strict=True):
                if name in filters:
                    assert float(row.norm()) == numbers(float(own.norm()))
                    assert torch.allclose(row * drawn.norm(), drawn * own.norm())
                else:
                    assert not row.any()


def test_a_vector_that_is_no_bias_is_one_filter() -> None:
    layout = Layout(("w", "bias"), ((3,), (2,)))
    found = filter_normalised(
        Params(torch.tensor([[0.0, 5, 0, 7, 7]]), layout), Params(torch.tensor([[3.0, 4, 0, 1, 1]]), layout)
    )
    assert found.tolist() == [[0.0, 5.0, 0.0, 0.0, 0.0]]


def test_random_directions_are_keyed_by_the_metrics_seed_and_are_the_same_at_every_step(trained: Snapshot) -> None:
    def along(snapshot: Snapshot, **knobs: Any) -> Any:
        return Landscape(points=3, **knobs)(snapshot)["landscape_random_loss"]

    assert along(trained) == along(replace(trained, step=7, seed=5))
    assert along(trained) != along(trained, seed=1)


def test_the_loss_at_the_grid_is_the_loss_of_the_models_there(trained: Snapshot) -> None:
    found = Landscape("random", points=3, reach=0.5, examples=40)(trained)
    loss = probe_losses(trained, 40)[""]
    directions = landscapes.random_directions(loss, trained.params.matrix, 2, 0).rows
    rows = [loss.point + x * directions[0] + y * directions[1] for y in (-0.5, 0, 0.5) for x in (-0.5, 0, 0.5)]
    assert found["landscape_random_loss"] == numbers(losses(trained, torch.stack(rows), 40))


def test_three_replicas_lie_in_their_plane_where_their_coordinates_say(trained: Snapshot) -> None:
    three = replace(trained, params=trained.params.like(trained.params.matrix[:3]))
    found = Landscape("replicas", points=3)(three)
    assert found["landscape_replicas_replicas_share"] == numbers(1.0)
    mean, axes = three.params.matrix.mean(dim=0), principal_axes(three.params.matrix)
    assert torch.allclose(axes @ axes.T, torch.eye(2).double(), atol=1e-9)
    x, y = found["landscape_replicas_replicas_x"], found["landscape_replicas_replicas_y"]
    there = mean + torch.tensor([x, y], dtype=torch.float64).T @ axes
    assert torch.allclose(there, three.params.matrix, atol=1e-9)
    at = found["landscape_replicas_at"]
    assert max(map(abs, [*x, *y])) * 1.25 == numbers(at[2])
    assert sum(v * v for v in x) > sum(v * v for v in y)
    found_there = landscape(
        mean, axes, torch.tensor([x[0], y[0]], dtype=torch.float64), probe_losses(three, 1000)[""].losses
    )
    assert float(found_there[2]) == numbers(losses(three, three.params.matrix[:1])[0])


def test_of_more_replicas_the_plane_shows_the_share_of_the_two_widest_axes(trained: Snapshot) -> None:
    found = Landscape("replicas", points=2)(trained)
    deviations = trained.params.matrix - trained.params.matrix.mean(dim=0)
    spread = torch.linalg.svdvals(deviations).square()
    assert found["landscape_replicas_replicas_share"] == numbers(float(spread[:2].sum() / spread.sum()))
    inside = Landscape("eigenvectors", points=2)(trained)
    share = Curvature(eigenvalues=2, probes=0)(trained)["xi_in_top"]
    assert inside["landscape_eigenvectors_replicas_share"] == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize("kind", ["random", "eigenvectors", "replicas"])
def test_the_order_of_the_replicas_changes_nothing_but_the_order_of_their_dots(trained: Snapshot, kind: str) -> None:
    order = [2, 0, 3, 1]
    shuffled = replace(trained, params=trained.params.like(trained.params.matrix[order]))
    metric = Landscape(kind, points=5)
    before, after = metric(trained), metric(shuffled)
    for name, value in before.items():
        moved = [value[i] for i in order] if name.endswith(("_replicas_x", "_replicas_y")) else value  # type: ignore[index]
        assert after[name] == pytest.approx(moved, rel=1e-6, abs=1e-9), name


def test_single_precision_ensembles_have_the_numbers_of_double_ones(trained: Snapshot) -> None:
    p = trained.params
    single = replace(trained, params=p.like(p.matrix.float()), train=replace(trained.train, x=trained.train.x.float()))
    for kind in ("random", "eigenvectors", "replicas"):
        double, found = (Landscape(kind, points=3)(s)[f"landscape_{kind}_loss"] for s in (trained, single))
        assert found == pytest.approx(double, rel=1e-4)


def test_twins_are_looked_at_around_themselves_on_the_same_grid(trained: Snapshot) -> None:
    for kind in ("random", "eigenvectors", "replicas"):
        found = Landscape(kind, points=3)(trained)
        twin = replace(trained, params=trained.twins["centralized"], twins={})
        assert found[f"centralized_landscape_{kind}_loss"][4] == numbers(losses(trained, twin.params.matrix)[0])  # type: ignore[index]
        if kind != "replicas":
            reach = found[f"landscape_{kind}_at"][2]  # type: ignore[index]
            alone = Landscape(kind, points=3, reach=reach)(twin)[f"landscape_{kind}_loss"]
            assert found[f"centralized_landscape_{kind}_loss"] == pytest.approx(alone, rel=1e-6)


def test_equal_or_too_few_replicas_span_no_plane(trained: Snapshot) -> None:
    def of(rows: Tensor, dimensions: int) -> Any:
        return Landscape("replicas", dimensions, points=3)(replace(trained, params=trained.params.like(rows)))

    rows = trained.params.matrix
    assert of(rows[:2], 2) == {}
    assert {"landscape_replicas_loss", "landscape_replicas_replicas_x"} < of(rows[:2], 1).keys()
    assert "landscape_replicas_replicas_y" not in of(rows[:2], 1)
    assert of(rows[:1], 1) == of(rows[:1].expand(4, -1), 1) == {}
    assert "landscape_random_loss" in Landscape(points=3)(replace(trained, params=trained.params.like(rows[:1])))


def test_landscapes_of_three_kinds_stand_beside_each_other_in_a_row(small: Make) -> None:
    kinds = ("random", "eigenvectors", "replicas")
    row = dsgd.train(small(steps=2, metrics=tuple(Landscape(kind, points=3) for kind in kinds))).history[-1]
    assert all(len(row[f"landscape_{kind}_loss"]) == 9 for kind in kinds)
    assert len(row["landscape_replicas_replicas_x"]) == 4


def test_running_statistics_stay_those_of_the_centre(small: Make, snapshot_of: Snapshots) -> None:
    run = small(model=Mlp((8,), activation="relu", norm="batch"), steps=5)
    snapshot = snapshot_of(run)
    found = Landscape(points=3, reach=0.5)(snapshot)["landscape_random_loss"]
    judged, loss = snapshot.judged(), probe_losses(snapshot, 1000)[""]
    directions = landscapes.random_directions(loss, snapshot.params.matrix, 2, 0).rows
    there = loss.point + 0.5 * directions[0] - 0.5 * directions[1]
    row = torch.cat([there, judged.mean.matrix[0, loss.own.d :]])[None]
    assert found[2] == numbers(float(evaluate(judged.network, judged.mean.like(row), snapshot.train)[0]))  # type: ignore[index]


def test_a_loss_that_is_not_finite_is_missing(quadratic: Snapshot) -> None:
    found = Landscape("eigenvectors", 1, points=3, reach=1e200)(quadratic)["landscape_eigenvectors_loss"]
    assert found[0] is None  # type: ignore[index]
    assert found[1] is not None  # type: ignore[index]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"kind": "valley"}, "kind is valley; allowed are random, eigenvectors, replicas"),
        ({"dimensions": 3}, "dimensions is 3; it must be 1 or 2"),
        ({"points": 1}, "points is 1; it must be at least 2"),
        ({"reach": 0.0}, "reach is 0.0; it must be above 0 and finite$"),
        ({"reach": float("inf")}, "reach is inf; it must be above 0 and finite$"),
        ({"examples": 0}, "examples is 0; it must be at least 1"),
        ({"every": -1}, "every is -1"),
    ],
)
def test_knobs_that_cannot_be_are_refused(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Landscape(**knobs)


def test_coordinates_are_from_the_mean() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    assert coordinates(rows, torch.eye(2).double()).tolist() == [[-1.0, -1.0], [1.0, 1.0]]
