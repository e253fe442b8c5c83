"""What the study of batch sizes concludes from histories that are made up: the powers that are planted."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dsgd.run import Run
from dsgd.study import Report, find_study
from tests.experiments.concluding import judged

STUDY = find_study("batch_size_scaling")
SETTINGS = STUDY.presets["standard"]
RING_OF_8 = 1.3858  # S(P)


def as_expected(run: Run, stream: Random) -> dict[str, Any]:
    """Linear theory: Tr Xi = lr^2 tr Cov / B times n^0.4, and C-SGD sharper than the others at a larger lr."""
    batch, lr = int(run.batch_size), run.when(0).lr
    spread = lr**2 * (run.gradient_noise**2 or 6.0 / batch) * RING_OF_8 * 0.9 * (run.n / 8) ** 0.4
    if run.algorithm == "adapt_then_combine" and "complete" in repr(run.topology):
        spread = 1e-15
    sharp = 2 * lr**-0.2 * stream.gauss(1, 0.01)
    return {
        "trace_xi": spread * stream.gauss(1, 0.01),
        "half_trace_h_xi": spread * stream.gauss(1, 0.01) / 2,
        "gradient_variance": 6.0,
        "centralized_gradient_variance": 8.0,
        "lambda_max": sharp,
        "average_direction_sam_lambda_max": sharp,
        "centralized_lambda_max": 2.0,
        "equivalence_slope_loss_gap": stream.gauss(3, 0.01),
        "hessian_trace": 20.0,
        "test_accuracy_mean_model": 0.9,
    }


def concluded(change: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row) -> tuple[dict[str, Any], Report]:
    stream, found = Random(1), {}
    for label, run in STUDY.runs(SETTINGS).items():
        early, late = ({"step": step} | change(as_expected(run, stream)) for step in (0, run.steps))
        del early["equivalence_slope_loss_gap"]
        found[label] = [early | {"step": 0, "trace_xi": 100.0, "half_trace_h_xi": 100.0}, late]
    return judged(STUDY, SETTINGS, found)


def test_planted_powers_are_found_and_the_answer_says_so() -> None:
    found, report = concluded()
    refuted = {name for name, one in found.items() if one.verdict == "refuted"}
    assert refuted == {"mode A: regulariser does not fall"}
    assert {one.verdict for one in found.values()} == {"supported", "refuted"}
    powers = {"mode A: Tr Xi": -1, "mode B: Tr Xi grows": 0.4, "mode C: Tr Xi grows": 1, "constant noise": 0}
    powers |= {"mode C: Tr Xi at equal noise": 1, "mode C: flatter than C-SGD": -0.2, "mode C: as flat as AD-SAM": 0}
    for name, power in powers.items():
        assert found[name].interval.estimate == pytest.approx(power, abs=0.02), name
    assert found["Tr Xi below linear theory"].interval.estimate == pytest.approx(0.9, abs=0.03)
    assert "falls in mode A" in report.answer
    assert "does not fall in mode C" in report.answer


def test_c_sgd_s_regulariser_is_its_twin_s_variance_over_the_total_batch() -> None:
    table = concluded()[1].tables[2]
    column = table.columns.index("C-SGD: lr/(4|B|) tr Cov")
    rows = {(row[0], row[1]): row[column] for row in table.rows}
    left = (1437 - 64) / 1436
    assert rows["A", 64] == pytest.approx(0.1 / (4 * 64) * 8.0 * left)
    assert rows["B", 256] == pytest.approx(0.1 / (4 * 256) * 8.0 * (1437 - 256) / 1436)


def test_a_spread_above_theory_and_one_that_falls_in_mode_c_are_refuted() -> None:
    high = concluded(lambda row: row | {"trace_xi": 2 * row["trace_xi"]})[0]
    assert high["Tr Xi below linear theory"].verdict == "refuted"
    fallen = concluded(lambda row: row | {"half_trace_h_xi": row["trace_xi"] ** -1})[0]
    assert fallen["mode A: regulariser does not fall"].verdict == "supported"
    assert fallen["mode C: regulariser does not fall"].verdict == "refuted"


def test_what_is_missing_is_a_gap() -> None:
    found, report = concluded(lambda row: row | {"lambda_max": None, "equivalence_slope_loss_gap": None})
    assert found["mode C: flatter than C-SGD"].verdict == "inconclusive"
    assert found["loss gap"].verdict == "inconclusive"
    assert {row[report.tables[2].columns.index("λ_max")] for row in report.tables[2].rows} == {None}
