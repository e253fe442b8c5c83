"""A stream along which nothing adapts is a direct evaluation, and every method goes along the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import batch_norm, linear, normalize, relu

from dsgd.adaptation import calibrated
from dsgd.data import Digits, EmergingClasses
from dsgd.data.examples import Examples
from dsgd.kernels import network
from dsgd.metrics import Drift, Snapshot
from dsgd.metrics.metric import Split, Values
from dsgd.models import Cosine, Mlp
from dsgd.run import Run
from dsgd.tasks import Task

Make = Callable[..., Run]
Snapshots = Callable[[Run], Snapshot]
FEW = Drift("x", batch_size=16, examples=40)


@pytest.fixture
def trained(small: Make, snapshot_of: Snapshots) -> Snapshot:
    """Of four replicas on eight classes; two emerge."""
    data = EmergingClasses(Digits(train_size=200, test_size=200), base=8)
    model = Cosine(Mlp((16, 12), "relu", "batch"))
    return snapshot_of(small(task=Task(data), model=model, batch_size=16, dtype="float32", steps=60))


def by_hand(snapshot: Snapshot, source: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """Features of the mean model by its leaves."""
    w = {name: leaf[0] for name, leaf in snapshot.judged().mean.items()}

    def features(x: torch.Tensor, source: bool = source) -> torch.Tensor:
        z = x.flatten(1)
        for k in (1, 2):
            z = linear(z, w[f"linear{k}.weight"], w[f"linear{k}.bias"])
            mean, var = (w[f"norm{k}.running_mean"], w[f"norm{k}.running_var"]) if source else (None, None)
            z = relu(batch_norm(z, mean, var, w[f"norm{k}.weight"], w[f"norm{k}.bias"], training=not source))
        return normalize(z, dim=1)

    return features


def evaluated(metric: Drift, snapshot: Snapshot) -> dict[str, list[float]]:
    """Accuracies of a model that stays as it is, of every session: of all its examples, the old classes, the new."""
    at_rest, moving = by_hand(snapshot, True), by_hand(snapshot, metric.statistics == "source")
    found: dict[str, list[float]] = {"accuracy": [], "base": [], "new": []}
    means = [at_rest(snapshot.train.x[snapshot.train.y == k]) for k in range(8)]
    base = prototypes = normalize(torch.stack([mean.mean(dim=0) for mean in means]), dim=1)
    held_out = Examples(snapshot.test.x.numpy(), snapshot.test.y.numpy())
    for session in metric.stream(snapshot).sessions(held_out, snapshot.seed):
        mean = normalize(at_rest(torch.from_numpy(session.shots.x)).mean(dim=0, keepdim=True), dim=1)
        prototypes = torch.cat([prototypes, calibrated(mean, base, metric.calibration)])
        scores = [moving(torch.from_numpy(batch.x)) @ prototypes.T for batch in session.batches]
        y = torch.cat([torch.from_numpy(batch.y) for batch in session.batches])
        right = (torch.cat(scores).argmax(dim=1) == y).double()
        for name, part in (("accuracy", y >= 0), ("base", y < 8), ("new", y >= 8)):
            found[name].append(float(right[part].mean()))
    return found


def number(values: Values, name: str) -> float:
    value = values[name]
    assert isinstance(value, float), name
    return value


@pytest.mark.parametrize("statistics", ["batch", "source"])
def test_without_adaptation_it_is_a_direct_evaluation(trained: Snapshot, statistics: Any) -> None:
    metric = replace(FEW, statistics=statistics)
    found, expected = metric(trained), evaluated(metric, trained)
    means = {name: sum(values) / 2 for name, values in expected.items()}
    assert {name: number(found, f"x_{name}") for name in means} == pytest.approx(means)
    assert found["x_sessions"] == pytest.approx(expected["accuracy"])
    harmonic = 2 * means["base"] * means["new"] / (means["base"] + means["new"])
    assert number(found, "x_harmonic") == pytest.approx(harmonic)
    assert 0.3 < means["base"] < 1
    assert found["x_kept"] == 1.0


@pytest.mark.parametrize("knobs", [{"margin": 0.0}, {"lr": 0.0}, {"lr": 0.0, "statistics": "source"}])
@pytest.mark.parametrize("method", ["sar", "rsgs"])
def test_what_is_never_sure_or_never_steps_is_frozen(trained: Snapshot, method: Any, knobs: dict[str, Any]) -> None:
    still = replace(FEW, statistics=knobs.get("statistics", "batch"))
    found = replace(still, method=method, rho=1.0, alpha=1.0, **{"lr": 1.0, **knobs})(trained)
    assert found | {"x_kept": 1.0} == still(trained)
    assert (found["x_kept"] == 0.0) == ("margin" in knobs)


def test_replicas_that_never_step_are_frozen_on_their_parts_of_the_batches(trained: Snapshot) -> None:
    still = replace(FEW, replicas=4)(trained)
    assert replace(FEW, replicas=4, method="tent", lr=0.0)(trained) == still
    assert still != FEW(trained)  # parts have statistics of their own
    source = replace(FEW, statistics="source")
    assert replace(source, replicas=4)(trained) == source(trained)


def test_methods_are_rsgs_without_its_parts_and_differ(trained: Snapshot) -> None:
    far = replace(FEW, lr=2.0, rho=1.0, alpha=1.0, examples=144)
    found = {method: replace(far, method=method)(trained) for method in ("frozen", "tent", "sar", "rsgs")}
    assert replace(far, method="rsgs", alpha=0.0)(trained) == found["sar"]
    assert replace(far, method="rsgs", alpha=0.0, rho=0.0, margin=100.0)(trained) == found["tent"]
    assert len({str(values) for values in found.values()}) == 4


def test_gossip_is_on_the_graph_or_not_at_all(trained: Snapshot) -> None:
    far = replace(FEW, method="tent", lr=0.5, replicas=4)
    found = [replace(far, graph=graph)(trained) for graph in ("ring", "complete", "none")]
    assert len({str(values) for values in found}) == 3


def test_every_method_has_the_same_stream(trained: Snapshot) -> None:
    others: list[dict[str, Any]] = [{"method": "tent"}, {"replicas": 4}, {"calibration": 0.0}, {"statistics": "source"}]
    assert all(replace(FEW, **other).stream(trained) == FEW.stream(trained) for other in others)
    assert replace(FEW, noise=0.3).stream(trained) != FEW.stream(trained)
    assert FEW(replace(trained, seed=trained.seed + 1)) != FEW(trained)


def test_names_begin_with_the_label_and_the_model_is_left_as_it_is(trained: Snapshot) -> None:
    before, module = trained.params.matrix.clone(), copy.deepcopy(trained.network.module.state_dict())
    adapting = replace(FEW, label="one", method="rsgs", lr=0.5)
    first, again = adapting(trained), adapting(trained)
    assert first == again
    assert all(name.startswith("one_") for name in first)
    assert torch.equal(trained.params.matrix, before)
    assert all(torch.equal(leaf, module[name]) for name, leaf in trained.network.module.state_dict().items())


def test_where_no_class_emerges_there_are_no_values(small: Make, snapshot_of: Snapshots) -> None:
    everything = snapshot_of(small(task=Task(Digits(train_size=200))))
    assert FEW(everything) == {}
    kept = everything.train.y != 3  # a gap is no class that emerges
    assert FEW(replace(everything, train=Split(everything.train.x[kept], everything.train.y[kept]))) == {}


def test_a_model_without_normalisation_can_be_frozen_only(small: Make, snapshot_of: Snapshots) -> None:
    run = small(task=Task(EmergingClasses(Digits(train_size=200, test_size=200), base=8)), dtype="float32")
    found = snapshot_of(run)
    assert number(FEW(found), "x_base") > 0.1
    with pytest.raises(ValueError, match="no normalisation layer"):
        replace(FEW, method="tent")(found)
    assert found.network.layout == network(run.model.build((1, 8, 8), 10), "cross_entropy").layout


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"method": "eata"}, "method is eata; allowed are frozen, tent, sar, rsgs"),
        ({"statistics": "none"}, "statistics is none; allowed are batch, source"),
        ({"calibration": 1.5}, "calibration is 1.5; it must be 0 to 1"),
        ({"lr": -1.0}, "lr is -1.0; it must be at least 0"),
        ({"rho": -1.0}, "rho is -1.0"),
        ({"shots": 0}, "shots is 0; it must be at least 1"),
        (
            {"replicas": 3},
            "batch_size is 64; it must be a multiple of replicas, 3, with at least two examples for each",
        ),
        ({"batch_size": 4, "replicas": 4}, "batch_size is 4; it must be a multiple of replicas, 4"),
        ({"label": "RSGS"}, "label is 'RSGS'; it must be of small letters, digits and _"),
        ({"graph": "rung", "replicas": 4}, "graph"),
        ({"every": -1}, "every is -1"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Drift(**knobs)
