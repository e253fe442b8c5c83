"""What the equivalence study concludes from histories that are made up: powers exact, powers wrong, values missing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

import pytest

from dsgd.histories import Histories
from dsgd.metrics.instrument import SHOT_NOISE_OCTAVES, fitted_slope
from dsgd.statistics import judge
from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of, without

STUDY = find_study("equivalence")
SETTINGS = replace(STUDY.presets["smoke"], seeds=10, lrs=(0.4, 0.2, 0.1, 0.05, 0.025), sizes=(8, 16, 32))
SCALES = [2.0**-k for k in range(11)]
THEORY = {"correction": 2, "residual": 3, "symmetrised": 4, "ratio": 1, "one_minus_cosine": 2, "loss_gap": 3}
LOCAL = THEORY | {"residual": 1}
KINKED = dict.fromkeys(THEORY, 0.6) | {"ratio": 0.0}


def measured(prefix: str, orders: dict[str, float], scales: list[float], size: float, stream: Random) -> dict:
    """The instrument's row where each quantity is a power of the scale, but for a per mille."""
    curves = {q: [size * s ** (p + stream.gauss(0, 1e-3)) for s in scales] for q, p in orders.items()}
    row = {f"{prefix}_slope_{q}": fitted_slope(scales[-5:], curve[-5:], 0.5) for q, curve in curves.items()}
    row |= {f"{prefix}_curve_{q}": curve for q, curve in curves.items()}
    natural = {"ratio": 0.1, "cosine": 0.99, "half_trace_h_xi": 0.1, "scales": scales}
    limit = {"limit_ratio": 1e-4 * stream.uniform(1, 2), "limit_cosine": 1 - 1e-8 * stream.uniform(1, 2)}
    return row | {f"{prefix}_{name}": value for name, value in (natural | limit).items()}


def history(label: str, stream: Random) -> list[dict]:
    """What theory and the controls' nature make of a run of the study."""
    kind, *words, _ = label.split()
    row = {"step": 40, "lr": 0.1, "test_accuracy_mean_model": 0.9, "trace_xi": 0.04}
    near = stream.gauss(1, 1e-3)
    if kind == "smooth":
        return [row | measured("equivalence", THEORY, SCALES, 1.0, stream)]
    if kind in ("rough", "kinks"):
        size = 8**0.5 * near if words == ["eighth"] else 1.0
        return [row | measured("equivalence", KINKED, list(SHOT_NOISE_OCTAVES), size, stream)]
    if kind == "own":
        return [row | measured("own_shards", LOCAL, SCALES, 1.0, stream)]
    if kind == "more":
        return [row | measured("equivalence", THEORY, SCALES, int(words[0]) ** -0.5 * near, stream)]
    if kind == "trajectory":
        lr = float(words[1])
        sam = 3.4 if words[0] == "tanh" else 0.9
        distances = {"centralized_distance": lr**2 * near, "average_direction_sam_distance": 0.1 * lr**sam * near}
        return [row | distances | {"trace_xi": lr**2 * near}]
    return [row | {"step": step, "trace_xi": noise_theory(*words) * row["lr"] ** 2 * near} for step in range(41)]


@cache
def noise_theory(graph: str, order: str) -> float:
    import topologies

    return topologies.stationary_consensus(topologies.Topology(graph, SETTINGS.n).matrix(), order) or 0.0


def made_up() -> Histories:
    stream = Random(1)
    return {label: history(label, stream) for label in STUDY.runs(SETTINGS)}


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    return verdicts_of(STUDY, SETTINGS, histories)


def test_exact_powers_support_every_claim_and_control(drawn: None) -> None:
    verdicts, report = concluded(made_up())
    assert len(report.figures) == 4
    assert set(verdicts.values()) == {"supported"}
    assert report.answer.startswith("Yes, asymptotically:")
    assert "Not as expected" not in report.answer


@pytest.mark.parametrize(
    ("quantity", "order", "answer"), [("residual", 2.0, "No:"), ("correction", 1.0, "No:"), ("loss_gap", 4.0, "Yes")]
)
def test_a_wrong_order_refutes_its_claim_and_the_answer_says_so(quantity: str, order: float, answer: str) -> None:
    histories = made_up()
    for label, (row,) in ((label, h) for label, h in histories.items() if label.startswith("smooth")):
        histories[label] = [row | {f"equivalence_slope_{quantity}": order + row[f"equivalence_slope_{quantity}"] / 1e3}]
    verdicts, report = concluded(histories)
    assert verdicts.pop(f"smooth: {quantity} slope") == "refuted"
    assert set(verdicts.values()) == {"supported"}
    assert report.answer.startswith(answer)
    assert f"smooth: {quantity} slope (refuted)" in report.answer


def test_a_control_that_passes_the_smooth_bar_is_refuted() -> None:
    histories = made_up()
    for label, rows in histories.items():
        if label.startswith(("rough", "kinks")):
            histories[label] = [rows[0] | measured("equivalence", THEORY, SCALES, 1.0, Random(label))]
    verdicts, _ = concluded(histories)
    refuted = {name for name, verdict in verdicts.items() if verdict == "refuted"}
    assert refuted == {"ReLU: residual slope", "ReLU: ratio slope", "ReLU: more examples"}


@pytest.mark.parametrize(("missing", "verdict"), [(1, "supported"), (2, "inconclusive"), (10, "inconclusive")])
def test_missing_slopes_are_counted_and_beyond_a_tenth_nothing_is_concluded(missing: int, verdict: str) -> None:
    seeds = range(SETTINGS.seed, SETTINGS.seed + missing)
    verdicts, report = concluded(without(made_up(), "smooth", "equivalence_slope_residual", seeds))
    assert verdicts["smooth: residual slope"] == verdict
    assert report.answer.startswith("Yes" if verdict == "supported" else "Undecided:")
    (row,) = [one.row() for one in judge(report.claims) if one.claim.name == "smooth: residual slope"]
    assert (row["unavailable"], row["measurements"]) == (missing, 10)
    assert (row["estimate"] is None) == (missing == 10)


@pytest.mark.parametrize(
    ("start", "metric", "claim"),
    [
        ("trajectory tanh", "average_direction_sam_distance", "trajectories: D-SGD from AD-SAM"),
        ("trajectory tanh", "centralized_distance", "trajectories: share left unexplained"),
        ("rough", "equivalence_slope_ratio", "ReLU: ratio slope"),
        ("smooth", "equivalence_limit_ratio", "smooth: limit of the ratio"),
        ("smooth", "equivalence_ratio", "none: only a table and the answer lose it"),
    ],
)
def test_a_metric_that_is_never_available_is_inconclusive_and_no_exception(start: str, metric: str, claim: str) -> None:
    everywhere = range(SETTINGS.seed, SETTINGS.seed + 4 * SETTINGS.seeds)
    verdicts, _ = concluded(without(made_up(), start, metric, everywhere))
    assert verdicts.get(claim, "inconclusive") == "inconclusive"


def test_the_trend_of_the_relu_ratio_is_told_whatever_it_is() -> None:
    for slope, words in ((-0.1, "does not fall as s falls"), (0.1, "falls as s falls")):
        histories = made_up()
        for label, (row,) in ((label, h) for label, h in histories.items() if label.startswith("rough")):
            shifted = slope + row["equivalence_slope_ratio"]
            histories[label] = [row | {"equivalence_slope_ratio": shifted}]
        assert f"correction {words}" in concluded(histories)[1].answer
