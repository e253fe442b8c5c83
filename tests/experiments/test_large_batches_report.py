"""What the study of large batches concludes from histories that are made up: tolerance, flatness, or neither."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dsgd.study import Report, find_study
from tests.experiments.concluding import judged

STUDY = find_study("large_batches")
SETTINGS = STUDY.presets["standard"]


def concluded(bonus: float = 0.0, edge: float = 2.0, sharp: float = 0.5) -> tuple[dict[str, Any], Report]:
    """Accuracy rises to a best learning rate and breaks down beyond `edge`, for C-SGD alone; D-SGD has a bonus.

    Tuning likes 1.6 best, the verdict's own test data 0.8.
    """
    stream, found = Random(1), {}
    for label in STUDY.runs(SETTINGS):
        part, method, batch, lr, _ = label.split()
        best = 1.6 if part == "tuning" else 0.8
        accuracy = 0.95 - 0.01 * abs(float(lr) - best) + stream.gauss(0, 0.0005)
        centralized = method in ("C-SGD", "complete-ATC", "LAMB-C-SGD")
        if method == "C-SGD" and float(lr) > edge:
            accuracy = 0.3 + stream.gauss(0, 0.01)
        if method == "complete-ATC":
            accuracy = found[label.replace("complete-ATC", "C-SGD")][-1]["test_accuracy_mean_model"]
        if not centralized and not method.startswith("LAMB"):
            accuracy += bonus
        lambda_max = (1.0 if centralized else sharp * (64 / int(batch)) ** 0.1) * stream.gauss(1, 0.01)
        row: dict[str, Any] = {
            "test_accuracy_mean_model": accuracy,
            "train_accuracy_mean_model": accuracy,
            "test_accuracy_replicas_mean": accuracy,
            "lambda_max": lambda_max,
            **dict.fromkeys(("trace_xi", "half_trace_h_xi", "train_loss_mean_model", "hessian_trace"), 1.0),
        }
        twin = {"test_accuracy", "train_accuracy"} if method == "ring" else set()
        row |= {f"average_direction_sam_{name}": row[f"{name}_mean_model"] for name in twin}
        row |= {f"average_direction_sam_{name}": 1.0 for name in ("train_loss", "lambda_max", "hessian_trace")}
        found[label] = [row]
    return judged(STUDY, SETTINGS, found)


def test_the_learning_rate_is_chosen_in_tuning_and_never_on_the_verdict_s_data() -> None:
    table = concluded()[1].tables[0]
    assert {row[table.columns.index("tuned lr")] for row in table.rows} == {1.6}


def test_tolerance_without_flatness() -> None:
    found, report = concluded(bonus=-0.002)
    assert found["untuned"].interval.estimate > 50
    assert found["tolerance"].interval.estimate == pytest.approx(2.0)  # 3.2 and 1.6
    assert found["tuned"].verdict == "supported"
    assert found["at the same lr"].verdict == "refuted"
    assert "learning rates that C-SGD does not tolerate; at the same learning rate D-SGD is no better" in report.answer
    assert "which is one comparison: both have the same" in report.answer


def test_flatness_and_tolerance() -> None:
    found, report = concluded(bonus=0.004)
    assert found["at the same lr"].interval.estimate == pytest.approx(0.4, abs=0.05)
    assert "does not tolerate; D-SGD is better at the same learning rate, too" in report.answer
    assert found["complete graph: C-SGD"].verdict == "supported"


def test_without_an_edge_tolerance_explains_nothing() -> None:
    found, report = concluded(bonus=0.02, edge=10.0)
    assert found["tolerance"].verdict == "refuted"
    assert found["tuned"].verdict == "refuted"
    assert report.answer.splitlines()[-1].startswith("Tolerance of larger learning rates does not explain the gap")


def test_sharper_replicas_refute_that_they_are_flatter() -> None:
    flat, sharp = (concluded(sharp=ratio)[0] for ratio in (0.5, 2.0))
    assert flat["flatter"].verdict == "supported"
    assert flat["flatter"].interval.estimate == pytest.approx(-0.69, abs=0.02)
    assert flat["flatter, however large the batch"].verdict == "supported"
    assert sharp["flatter"].verdict == "refuted"


def test_every_seed_has_its_own_split_and_tuning_never_sees_test_examples() -> None:
    runs = STUDY.runs(SETTINGS)
    splits = {run.seed: run.task.data.split for label, run in runs.items() if label.startswith("verdict")}
    assert len(set(splits.values())) == SETTINGS.seeds
    held_out = {run.task.data for label, run in runs.items() if label.startswith("tuning")}
    assert {type(data).__name__ for data in held_out} == {"HeldOut"}
    assert not {run.seed for label, run in runs.items() if label.startswith("tuning")} & set(splits)
