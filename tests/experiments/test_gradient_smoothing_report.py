"""What the study of gradient smoothing concludes from histories that are made up: smoothing, none, values missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from dsgd.histories import Histories
from dsgd.metrics.lipschitz import unavailable
from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of, without

STUDY = find_study("gradient_smoothing")
SETTINGS = replace(STUDY.presets["smoke"], seeds=10, graphs=("ring", "exponential"))
PARTS = ("smooth early", "smooth late", "ReLU early", "ReLU late")


def measured(prefix: str, scale: float, ratio: float, off: float, stream: Random, **others: float) -> dict:
    """The values of one probe where the smoothing is as given, but for a per mille."""
    near = stream.gauss(1, 1e-3)
    found = dict.fromkeys(unavailable(), 1.0) | {
        "spread": 0.1 * scale,
        "ratio_span": ratio * near,
        "ratio_off": off * near,
        "surroundings_span": 2.0,
        "cancelling_span": ratio / 2 * near,
        "bound": 5.0,
        "bound_share": 0.2,
        "bound_failures": 0.0,
        "bound_to_beta": 0.8 * near,
        "rank": 3.0,
    }
    return {f"{prefix}_{name}": value for name, value in (found | others).items()}


def as_claimed(kind: str, s: float) -> float:
    """Ratios that fall with s, for ReLU below those of smooth networks."""
    return (0.9 if kind == "smooth" else 0.8) * s**-0.1


def made_up(ratio: Callable[[str, float], float] = as_claimed, off: float = 1.0, **others: float) -> Histories:
    stream = Random(1)

    def history(label: str) -> list[dict]:
        kind = label.split()[0]
        row = {"step": 30, "lr": 0.1, "test_accuracy_mean_model": 0.9, "trace_xi": 0.04}
        if kind == "quadratic":
            ratios = {"smoothing_ratio_span": 1 + stream.gauss(0, 1e-15)}
            return [row | measured("smoothing", 1.0, 1.0, 1.0, stream) | ratios]
        for s in SETTINGS.scales:
            prefix = "smoothing" if s == 1 else f"smoothing_x{s:g}"
            row |= measured(prefix, s, ratio(kind, s), off, stream, **others)
        row |= measured("isotropic_smoothing", 1.0, 1.0, 1.0 if kind == "smooth" else 0.5, stream)
        return [row]

    return {label: history(label) for label in STUDY.runs(SETTINGS)}


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    return verdicts_of(STUDY, SETTINGS, histories)


def test_smoothing_as_claimed_supports_every_claim(drawn: None) -> None:
    verdicts, report = concluded(made_up())
    assert set(verdicts.values()) == {"supported"}
    assert len(verdicts) == 24
    assert [table.title for table in report.tables] == ["After 10 steps", "After 30 steps"]
    assert [len(table.rows) for table in report.tables] == [2 * 1 * 2 * 3, 2 * 2 * 2 * 3]
    assert len(report.figures) == 3
    assert "Ξ had rank 3, at most n − 1 = 3" in report.answer
    assert f"along the span: smoothing for {', '.join(PARTS)}." in report.answer
    assert "across all others" not in report.answer
    assert "was kept to" in report.answer


def test_a_gradient_that_becomes_more_lipschitz_is_refuted_and_the_answer_says_so() -> None:
    verdicts, report = concluded(made_up(lambda kind, s: 1.2 * s**0.1 - (kind == "ReLU") * 0.1, off=1.3))
    assert {verdicts[f"{start}: along the span"] for start in PARTS} == {"refuted"}
    assert {verdicts[f"{start}: off the span"] for start in PARTS} == {"refuted"}
    assert {verdict for name, verdict in verdicts.items() if "grows" in name} == {"refuted"}
    assert verdicts["kinks are smoothed"] == verdicts["quadratic"] == "supported"
    assert f"along the span: none for {', '.join(PARTS)}." in report.answer
    assert "smooth late 1.20, ReLU early 1.10" in report.answer
    assert "across all others" in report.answer


def test_one_direction_beyond_the_bound_is_enough() -> None:
    verdicts, report = concluded(made_up(bound_failures=1.0))
    assert verdicts.pop("the bound holds") == "refuted"
    assert set(verdicts.values()) == {"supported"}
    assert "was exceeded" in report.answer


def test_a_bound_above_beta_says_nothing() -> None:
    stream = Random(2)
    histories = made_up()
    for rows in histories.values():
        rows[0]["smoothing_bound_to_beta"] = stream.gauss(3, 0.1)
    assert concluded(histories)[0]["the bound says more than β"] == "refuted"


def test_a_quadratic_that_is_smoothed_is_seen() -> None:
    histories = made_up()
    for label, rows in histories.items():
        if label.startswith("quadratic"):
            rows[0]["smoothing_ratio_span"] -= 1e-6
    assert concluded(histories)[0]["quadratic"] == "refuted"


@pytest.mark.parametrize(("missing", "verdict"), [(1, "supported"), (2, "inconclusive"), (10, "inconclusive")])
def test_missing_ratios_are_counted_and_beyond_a_tenth_nothing_is_concluded(missing: int, verdict: str) -> None:
    seeds = range(SETTINGS.seed, SETTINGS.seed + missing)
    verdicts, report = concluded(without(made_up(), "smooth late", "smoothing_ratio_span", seeds))
    assert verdicts["smooth late: along the span"] == verdict
    assert ("undecided for smooth late" in report.answer) == (verdict == "inconclusive")


@pytest.mark.parametrize("metric", list(unavailable()))
def test_a_metric_that_is_never_available_is_no_exception(metric: str) -> None:
    histories = made_up()
    for rows in histories.values():
        rows[0] |= dict.fromkeys([name for name in rows[0] if name.endswith(metric)])
    verdicts, report = concluded(histories)
    assert set(verdicts.values()) <= {"supported", "inconclusive"}  # what is absent refutes nothing
    assert report.answer
