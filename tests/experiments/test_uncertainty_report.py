"""What the uncertainty study concludes from histories that are made up: a posterior's, and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsgd.histories import Histories
from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of

STUDY = find_study("uncertainty")
SETTINGS = replace(STUDY.presets["smoke"], seeds=10)
PREDICTORS = (
    "mean_model",
    "replicas",
    "xi",
    "isotropic",
    "leafwise",
    "xi_scaled",
    "isotropic_scaled",
    "leafwise_scaled",
)
TASKS = ("error_auroc", "ood_auroc_rotated", "ood_auroc_noisy")
Row = dict[str, Any]


def history(label: str, stream: Random) -> list[Row]:
    """Of replicas that are draws from a posterior: they gain, they doubt what is wrong, their scale is one."""
    own = label.startswith("apart own")
    row: Row = {"step": 40, "lr": 0.1, "trace_xi": 0.01 * stream.uniform(1, 2), "test_loss_replicas_mean": 0.3}
    for place, name in enumerate(PREDICTORS):
        gain = 0.0 if name == "mean_model" else 0.02
        row |= {f"accuracy_{name}": 0.9, f"brier_{name}": 0.1, f"ece_{name}": 0.02, f"temperature_{name}": 1.1}
        row[f"nll_{name}"] = 0.2 - gain - 0.05 * own + 1e-3 * stream.gauss(0, 1)
        row[f"nll_calibrated_{name}"] = 0.18 - gain / 2 - 0.05 * own + 1e-3 * stream.gauss(0, 1)
        row |= {f"brier_calibrated_{name}": 0.1, f"ece_calibrated_{name}": 0.01}
        for task in TASKS:
            row[f"{task}_entropy_{name}"] = 0.7 + 1e-3 * stream.gauss(0, 1)
            better = 0.95 if own else 0.9 - 0.05 * place
            row[f"{task}_information_{name}"] = better + 1e-3 * stream.gauss(0, 1)
        if name.endswith("_scaled"):
            row[f"scale_{name}"] = 2 ** stream.gauss(0, 1e-4)
    if own:
        row["nll_mean_model"] = 2.3 + 1e-3 * stream.gauss(0, 1)
    if label.startswith("equal"):
        row |= {name: 0.5 for name in row if "auroc" in name and "information" in name} | {
            "nll_replicas": row["nll_mean_model"]
        }
    return [row]


def made_up(change: Callable[[str, Row], Row] = lambda label, row: {}) -> Histories:
    """With what `change` puts in the row of each label."""
    stream = Random(1)
    rows = {label: history(label, stream)[0] for label in STUDY.runs(SETTINGS)}
    return {label: [row | change(label, row)] for label, row in rows.items()}


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    return verdicts_of(STUDY, SETTINGS, histories)


def test_a_posterior_supports_every_claim_and_control(drawn: None) -> None:
    verdicts, report = concluded(made_up())
    assert len(report.figures) == 2
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert report.answer.startswith("Xi is no calibrated posterior covariance")
    assert "order errors better than draws in all" in report.answer
    assert "scaled by 1 at lr 0.1 and by 1 at lr 0.5" in report.answer


def only(start: str, **values: Callable[[Row], Any]) -> Callable[[str, Row], Row]:
    """A change of some metrics in the runs whose label starts so."""
    return lambda label, row: {n: f(row) for n, f in values.items()} if label.startswith(start) else {}


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (
            only("gossip", nll_replicas=lambda row: row["nll_mean_model"] + 0.01),
            {f"NLL: replicas below the mean model, lr {lr}" for lr in (0.1, 0.5)},
        ),
        (
            only("gossip", scale_xi_scaled=lambda row: 8 * row["scale_xi_scaled"]),
            {"scale of Xi, lr 0.1", "scale of Xi, lr 0.5"},
        ),
        (
            only("gossip", error_auroc_information_xi=lambda row: 0.65 * row["error_auroc_information_xi"]),
            {"errors: Xi above isotropic noise, lr 0.5", "errors: Xi above the mean model's entropy"},
        ),
        (
            only("gossip", ood_auroc_rotated_information_xi=lambda row: 0.3 * row["ood_auroc_rotated_information_xi"]),
            {f"rotated: Xi above chance, lr {lr}" for lr in (0.1, 0.5)}
            | {"shifted: Xi above isotropic noise, lr 0.5", "shifted: Xi above the mean model's entropy"},
        ),
        (
            only("gossip", nll_calibrated_xi=lambda row: row["nll_calibrated_mean_model"] - 0.1),
            {"calibrated NLL: deep ensemble below Xi", "temperature: a deep ensemble keeps half its lead"},
        ),
        (
            only("apart own", error_auroc_information_replicas=lambda row: 0.6 + row["nll_replicas"] / 100),
            {"errors: deep ensemble above Xi"},
        ),
        (
            only("gossip", nll_calibrated_replicas=lambda row: row["nll_calibrated_mean_model"] - 0.003),
            {"calibrated NLL: replicas gain a tenth of a deep ensemble's"},
        ),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(change: Callable[[str, Row], Row], refuted: set[str]) -> None:
    verdicts, _ = concluded(made_up(change))
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == refuted
    assert {verdict for name, verdict in verdicts.items() if name not in refuted} <= {"supported", "inconclusive"}


@pytest.mark.parametrize(
    ("change", "control"),
    [
        (only("equal", nll_replicas=lambda row: row["nll_mean_model"] - 0.01), "equal replicas: no gain"),
        (only("apart own", nll_mean_model=lambda row: row["nll_replicas"] + 0.1), "starts apart: the mean is no model"),
        (only("gossip", test_loss_replicas_mean=lambda row: 0.1), "no average is worse than its members"),
        (
            only("apart same", ood_auroc_noisy_information_xi=lambda row: row["ood_auroc_noisy_information_xi"] - 0.3),
            "no gossip: Xi above isotropic noise",
        ),
    ],
)
def test_a_control_that_does_not_behave_is_refuted(change: Callable[[str, Row], Row], control: str) -> None:
    assert concluded(made_up(change))[0][control] == "refuted"


def test_directions_that_mislead_are_said_to() -> None:
    change = only("gossip", error_auroc_information_isotropic=lambda row: row["error_auroc_information_xi"] + 0.02)
    assert "order errors worse than draws in all" in concluded(made_up(change))[1].answer


def test_without_errors_or_images_there_is_less_to_conclude() -> None:
    def gone(label: str, row: Row) -> Row:
        return {name: None for name in row if "auroc" in name and ("error" in name or "rotated" in name)}

    verdicts, report = concluded(made_up(gone))
    assert verdicts["errors: Xi above chance"] == "inconclusive"
    assert verdicts["rotated: Xi above chance, lr 0.1"] == "inconclusive"
    assert verdicts["noisy: Xi above chance"] == "supported"
    assert "finds errors with an AUROC of unmeasured" in report.answer


def test_replicas_that_are_all_equal_have_no_scale() -> None:
    verdicts, report = concluded(made_up(only("gossip", scale_xi_scaled=lambda row: None)))
    assert verdicts["scale of Xi, lr 0.1"] == "inconclusive"
    assert "scaled by an unmeasured factor at lr 0.1" in report.answer


def test_every_yardstick_has_as_many_models_and_gradients() -> None:
    runs = STUDY.runs(SETTINGS)
    assert {(run.n, run.steps, run.batch_size) for run in runs.values()} == {(4, 40, 8)}
    assert {label.rsplit(" ", 2)[0] for label, run in runs.items() if run.starts == "own"} == {"apart own"}
    assert {label.rsplit(" ", 2)[0] for label, run in runs.items() if run.local_steps > run.steps} == {
        "apart own",
        "apart same",
    }


def test_every_seed_has_a_split_of_its_own() -> None:
    runs = STUDY.runs(SETTINGS)
    assert all(run.task.data.split == run.seed for run in runs.values())  # type: ignore[attr-defined]  # they are digits
