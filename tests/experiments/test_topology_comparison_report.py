"""What the study of topologies concludes from histories that are made up: what ranks what is planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

import topologies
from dsgd.histories import Histories
from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of

STUDY = find_study("topology_comparison")
SETTINGS = replace(
    STUDY.presets["standard"],
    seeds=10,
    seed=0,
    sizes=(16,),
    graphs=("ring", "path", "star", "grid", "torus", "hypercube", "exponential", "binary_tree", "complete", "barbell"),
)
Planted = Callable[[dict[str, float], Random], dict[str, float | None]]


def as_claimed(own: dict[str, float], stream: Random) -> dict[str, float | None]:
    """Linear theory for the spread, n_W for losses and accuracies, both 2022 and 2023 for the rest."""
    spread = own["S(P)"] * stream.gauss(1, 1e-3)
    return {
        "trace_xi": spread,
        "train_loss_mean_model": -own["n_W"] + stream.gauss(0, 0.1),
        "test_accuracy_mean_model": own["n_W"] + stream.gauss(0, 0.1),
        "test_accuracy_replicas_mean": own["n_W"] + stream.gauss(0, 0.1),
        "generalization_gap_mean_model": -own["spectral gap"] + stream.gauss(0, 0.1),
        "lambda_max": 1.0,
        "hessian_trace": -spread + stream.gauss(0, 0.1),
    }


@cache
def numbers(setting: Any, schedule: Any) -> dict[str, float]:
    if isinstance(schedule, topologies.OnePeerExponential):
        return {"spectral gap": 0.5, "n_W": 2.0, "S(P)": 1.0}
    W, gamma = schedule(0), (1 - setting.lr * setting.curvature) ** 2
    gap, neighbours = topologies.spectral_gap(W), topologies.effective_neighbours(W, gamma)
    return {"spectral gap": gap, "n_W": neighbours, "S(P)": topologies.stationary_consensus(W)}


def made_up(planted: Planted) -> Histories:
    stream, found = Random(1), {}
    for label, run in STUDY.runs(SETTINGS).items():
        setting = next(s for s in STUDY._four(SETTINGS) if label.startswith(s.name))
        values = planted(numbers(setting, run.topology), stream)
        rows = [{"step": step, "trace_xi": values["trace_xi"]} for step in (0, run.steps)]
        found[label] = [*rows[:-1], rows[-1] | values | {"bytes_sent": 1e6}]
    return found


def concluded(planted: Planted) -> tuple[dict[str, str], Report]:
    return verdicts_of(STUDY, SETTINGS, made_up(planted))


def test_what_is_planted_is_found() -> None:
    verdicts, report = concluded(as_claimed)
    contradicted = {"large lr: distance tests better"}  # accuracy was planted with the connection
    agreeing = {"shared data: Tr Xi, by n_W", "skewed data: Tr Xi, by n_W"}  # n_W too is only near to S(P)
    assert {name: verdicts.pop(name) for name in contradicted} == dict.fromkeys(contradicted, "refuted")
    assert set(verdicts) >= agreeing
    for name in agreeing:
        verdicts.pop(name)
    assert set(verdicts.values()) == {"supported"}, verdicts
    assert len(report.figures) == 3
    assert "distance tests better (refuted)" in report.answer


def test_a_loss_that_follows_the_gap_refutes_the_effective_neighbours() -> None:
    def by_gap(own: dict[str, float], stream: Random) -> dict[str, float | None]:
        return as_claimed(own, stream) | {"train_loss_mean_model": -own["spectral gap"] + stream.gauss(0, 1e-3)}

    verdicts, _ = concluded(by_gap)
    assert verdicts["shared data: training loss, mean model, by n_W"] == "refuted"
    assert verdicts["skewed data: test accuracy, replicas, by n_W"] == "supported"


def test_a_spread_that_depends_on_the_name_is_seen_by_the_control() -> None:
    found = made_up(as_claimed)
    for label, rows in found.items():
        if "torus" in label:
            found[label] = [row | {"trace_xi": 1.5 * row["trace_xi"]} for row in rows]
    assert verdicts_of(STUDY, SETTINGS, found)[0]["shared data: one graph, two names"] == "refuted"


def test_measurements_that_cannot_be_ranked_are_inconclusive_and_no_exception() -> None:
    def constant(own: dict[str, float], stream: Random) -> dict[str, float | None]:
        return as_claimed(own, stream) | {"test_accuracy_mean_model": 0.9, "hessian_trace": None}

    verdicts, report = concluded(constant)
    assert verdicts["large lr: distance flattens"] == "inconclusive"
    assert verdicts["skewed data: test accuracy, mean model, by n_W"] == "inconclusive"
    assert "(not available)" in report.answer


def test_one_of_each_mixing_matrix_is_trained_and_the_schedule() -> None:
    keys = STUDY._schedules(SETTINGS, 16, 0)
    matrices = [schedule(0).sparse().toarray().round(9).tobytes() for schedule in keys.values()]
    assert len(set(matrices)) == len(matrices)
    assert {graph for graph, _ in keys} == {*SETTINGS.graphs, "one_peer_exponential"}
    assert {rule for _, rule in keys} == set(STUDY.RULES)


def test_the_schedule_of_one_peer_has_the_spread_that_noise_gives_it() -> None:
    """Noise of k steps ago has been averaged over 2^k replicas: (1/n) sum over k < log2 n of n (1/2^k - 1/n)."""
    spread = STUDY._periodic_spread(topologies.OnePeerExponential(16))
    assert spread == pytest.approx(sum(2.0**-k - 1 / 16 for k in range(4)))
