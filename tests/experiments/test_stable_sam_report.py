"""What the study of SSAM concludes from histories that are made up; what its recursions find is exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from random import Random
from typing import Any

import pytest

from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY = find_study("stable_sam")
SETTINGS = replace(STUDY.presets["standard"], seeds=8)
STABLE = ("SSAM-U(0.5)", "SSAM-U(0.1)", "SSAM(0.5)")
RESISTS = {"SAM(0.5)": 0.9, "SSAM-U(1)": 0.9, "SSAM-U(0.5)": 0.88, "USAM(0.5)": 0.85}
AS_DERIVED = {"saddle: SSAM sooner, every rho", "saddle: SSAM leaves what traps SAM"}  # refuted, whatever is trained


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


def accuracy(label: str) -> float:
    """SSAM trains everywhere, and whatever is no SSAM at the least learning rate alone; SAM resists noise, so D-SGD."""
    words = label.split()
    if words[0] == "noise":
        on_ring = 0.85 if words[2] == "SGD" else RESISTS.get(words[2], 0.8) + 0.1
        return on_ring if words[1] == "ring" else RESISTS.get(words[2], 0.7)
    return 0.97 if words[1] in STABLE or words[2] == "0.5" else 0.2


def concluded(
    change: Callable[[str], float | None] = lambda label: None, learnt: float = 0.99
) -> tuple[dict[str, str], Report]:
    """The verdicts where `change` puts another accuracy: NaN for a run that diverged."""
    stream, found = Random(1), dict[str, list[dict[str, Any]]]()
    for label in STUDY.runs(SETTINGS):
        other = change(label)
        value = (accuracy(label) if other is None else other) + stream.gauss(0, 1e-3)
        row = {"test_accuracy_mean_model": value, "test_accuracy_replicas_worst": value}
        found[label] = [row | {"train_accuracy_mean_model": learnt}]
        if isnan(value):
            found[label] = [{"step": 3, "diverged": 1.0}]
    report = STUDY.report(SETTINGS, found)
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


def refuted(change: Callable[[str], float | None]) -> set[str]:
    return {name for name, verdict in concluded(change)[0].items() if verdict == "refuted"} - AS_DERIVED


def test_what_is_exact_and_what_was_made_up_is_found() -> None:
    verdicts, report = concluded()
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == AS_DERIVED
    assert "SSAM leaves not all saddles that trap SAM" in report.answer
    assert "512 steps for USAM's 2305 at rho 0.45, and 262 for 259 at rho 0.05" in report.answer
    assert "SGD 0.970 / 0.200 / 0.200" in report.answer


def test_the_saddles_are_left_after_the_derived_steps() -> None:
    table = concluded()[1].tables[1]
    assert table.columns[3:] == ("steps, derived", "steps")
    assert [row[4] for row in table.rows if row[3] == "never"] == ["not in 3000"] * 6
    assert [row[4] for row in table.rows if row[3] != "never"] == [233, 259, 387, 2305, 262, 350, 512, 238, 238]


def test_the_stable_learning_rates_are_theorys() -> None:
    for row in concluded()[1].tables[0].rows:
        assert row[3:] == pytest.approx((row[2], row[2]), rel=0.005)


@pytest.mark.parametrize(
    ("start", "value", "broken"),
    [
        ("one SSAM-U(0.5) 1 0", 0.9, {"lr 1: SSAM-U trains"}),
        ("one USAM(0.5) 1 0", 0.6, {"lr 1: USAM breaks down"}),
        ("one SSAM-U(0.5) 0.5 0", 0.95, {"lr 0.5: SSAM-U like SGD"}),
        ("one SSAM-U(0.5) 2 0", 0.25, {"lr 2: SSAM-U(0.5) above SGD"}),
        ("one SAM(0.5) 1 0", 0.9, {"lr 1: SSAM(0.5) above SAM(0.5)"}),
        ("one USAM(0.5) 0.3 0.9", 0.9, {"lr 0.3, momentum 0.9: SSAM-U(0.5) above USAM(0.5)"}),
        ("ring SSAM-U(0.5) 1 0", 0.9, {"ring, lr 1: SSAM-U trains"}),
        ("ring SGD 1 0", 0.9, {"ring, lr 1: SSAM-U(0.5) above SGD"}),
        ("ring USAM(0.5) 1 0", 0.9, {"ring, lr 1: USAM breaks down"}),
        ("ring SGD 0.5 0", 0.93, {"ring, lr 0.5: SSAM-U like SGD"}),
        ("ring SGD 2 0", 0.95, {"ring, lr 2: SSAM-U(0.5) above SGD"}),
        ("one SAM(0.1) 0.5 0", 0.8, {"lr 0.5: all train"}),
        ("one SGD 2 0", 0.8, {"lr 2: SGD breaks down"}),
        ("noise one SAM(0.5)", 0.75, {"noise: SAM(0.5)"}),
        ("noise one SSAM-U(1)", 0.75, {"noise: SSAM-U(1)"}),
        ("noise one USAM(0.5)", 0.7, {"noise: SSAM-U like USAM"}),
        ("noise equal SAM(0.5)", 0.1, {"noise, equal replicas: SAM(0.5)"}),
        ("noise equal SSAM-U(1)", 0.1, {"noise, equal replicas: SSAM-U(1)"}),
        ("noise ring SAM(0.1)", 0.8, {"noise, ring: SAM(0.1)"}),
        ("noise ring SAM(0.5)", 0.9, {"noise, ring: SAM(0.5)"}),
        ("noise ring SSAM-U(1)", 0.1, {"noise, ring: SSAM-U(1)"}),
        ("noise ring SGD", 0.75, {"noise: D-SGD like SAM"}),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(start: str, value: float, broken: set[str]) -> None:
    assert refuted(lambda label: value if label.startswith(f"{start} ") else None) == broken


def test_a_diverged_run_counts_as_chance() -> None:
    verdicts, report = concluded(lambda label: float("nan") if label.startswith("ring SSAM-U(0.5) 1 ") else None)
    assert verdicts["ring, lr 1: SSAM-U trains"] == "refuted"
    (row,) = [row for row in report.tables[2].rows if row[:3] == ("ring", "SSAM-U(0.5)", 1.0)]
    assert row[4:] == ("0.100 [0.100, 0.100]", "0.100 [0.100, 0.100]", 8, 8)


def test_noise_that_is_not_learnt_is_no_test() -> None:
    verdicts, _ = concluded(learnt=0.7)
    assert verdicts["noise: SGD learns it by heart"] == "refuted"


def test_both_places_have_the_same_total_batch_and_a_draw_a_seed() -> None:
    runs = STUDY.runs(SETTINGS)
    assert {run.n * run.batch_size for run in runs.values()} == {64}
    noisy = [run for label, run in runs.items() if label.startswith("noise")]
    data: list[Any] = [(run.task.data, run.seed) for run in noisy]
    assert all((noise.draw, noise.source.split) == (seed, seed) for noise, seed in data)
    assert {run.task.data for label, run in runs.items() if not label.startswith("noise")} == {SETTINGS.data}
