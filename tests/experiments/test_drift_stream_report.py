"""What the drift study concludes from histories that are made up: one as the pilot's, and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsgd.data import Digits, EmergingClasses
from dsgd.histories import Histories
from dsgd.metrics import Drift
from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY = find_study("drift_stream")
SETTINGS = replace(STUDY.presets["smoke"], seeds=10)
Row = dict[str, Any]

EXPECTED = {  # accuracies of base and of new classes, in points
    "source": (84, 52),
    "frozen": (93, 50),
    "uncalibrated": (94, 46),
    "light": (93.5, 48),
    "absorbed": (86, 34),
    "still_source": (96, 58),
    "still": (95, 50),
    "drifted_source": (82, 54),
    "drifted": (92, 36),
    "careful": (93.25, 50.25),
    "bolder": (93.3, 50.3),
    "tent_less": (93, 46),
    "sar_less": (93, 46),
    "rsgs_less": (93, 48),
    "tent": (92, 40),
    "sar": (92, 40),
    "rsgs": (92, 44),
    "parts": (89, 41),
    "apart": (87, 37),
    "gossip": (88, 39),
}


def history(label: str, stream: Random) -> Row:
    """Every seed has its level, and all arms of a base share it."""
    single, row, level = label.startswith("single"), Row(step=200), stream.gauss(0, 3)
    for arm, (base, new) in EXPECTED.items():
        shares = base + level, new + (0 if single else 10) + level
        found = {"accuracy": sum(shares) / 2 - (0 if single else 5), "base": shares[0], "new": shares[1]}
        found["harmonic"] = 2 * shares[0] * shares[1] / sum(shares)
        row |= {f"{arm}_{name}": (value + stream.gauss(0, 0.01)) / 100 for name, value in found.items()}
        row |= {f"{arm}_kept": 0.9, f"{arm}_sessions": [0.9, 0.8, 0.7, 0.6]}
    return row


def made_up(change: Callable[[str, Row], Row] = lambda label, row: {}) -> Histories:
    """With what `change` puts in the row of each label; bases of one seed have one level."""
    rows = {label: history(label, Random(label.split()[1])) for label in STUDY.runs(SETTINGS)}
    return {label: [row | change(label, row)] for label, row in rows.items()}


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    report = STUDY.report(SETTINGS, histories)  # type: ignore[arg-type]  # rows are read only
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, which take most of a report's time, are drawn in the first test only."""
    if request.node.name != test_what_is_expected_supports_every_claim_but_two_that_exclude_each_other.__name__:
        monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


SAFE = "safety: RSGS at lr 0.002 as frozen"


def test_what_is_expected_supports_every_claim_but_two_that_exclude_each_other() -> None:
    """An improvement of 0.25 points at lr 0.002 is one, and so not within 0.2 of the frozen model."""
    verdicts, report = concluded(made_up())
    assert len(report.figures) == 2
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == {SAFE}
    assert verdicts[SAFE] == "refuted"
    assert "a gain of 3.5" in report.answer
    assert [len(table.rows) for table in report.tables] == [32, 16]


def moved(start: str, **points: float) -> Callable[[str, Row], Row]:
    """Metrics of the runs whose label starts so, by points more."""
    return lambda label, row: {n: row[n] + by / 100 for n, by in points.items()} if label.startswith(start) else {}


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (moved("single", frozen_new=-3.0), {"calibration: new classes"}),
        (moved("single", frozen_harmonic=-2.5), {"calibration: harmonic mean"}),
        (
            moved("single", frozen_new=-6.0),
            {"calibration: new classes", "calibration: new classes gain"},
        ),
        (
            moved("single", uncalibrated_harmonic=6.0),
            {"calibration: harmonic mean", "calibration: harmonic mean gains"},
        ),
        (moved("single", uncalibrated_base=2.0), {"calibration: base classes"}),
        (moved("single", source_accuracy=2.0), {"batch statistics: AA"}),
        (moved("ring", source_accuracy=2.0), {"D-SGD base: batch statistics, AA"}),
        (moved("single", drifted_new=16.0), {"batch statistics, drifted shots: new classes"}),
        (moved("single", sar_accuracy=3.0), {"stress, lr 0.2: RSGS above SAR, AA"}),
        (moved("single", sar_less_new=3.0), {"stress, lr 0.05: RSGS above SAR, new"}),
        (moved("single", tent_less_accuracy=3.0), {"stress, lr 0.05: RSGS above Tent, AA"}),
        (moved("single", bolder_accuracy=-0.3), {"RSGS above frozen, lr 0.02"}),
        (moved("ring", frozen_accuracy=4.0), {"D-SGD base: AA as of C-SGD"}),
        (moved("ring", frozen_new=-9.0), {"D-SGD base: new classes above one model's"}),
        (moved("ring", sar_less_new=3.0), {"D-SGD base, stress, lr 0.05: RSGS above SAR, new"}),
        (moved("single", apart_accuracy=3.0), {"replicas, stress, lr 0.2: gossip above none, AA"}),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(change: Callable[[str, Row], Row], refuted: set[str]) -> None:
    verdicts, _ = concluded(made_up(change))
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == {SAFE} | refuted


@pytest.mark.parametrize(
    ("change", "control"),
    [
        (moved("single", still_accuracy=6.0), "no drift: batch statistics gain nothing"),
        (moved("single", absorbed_new=11.0), "calibration 1 loses new classes"),
        (moved("single", tent_accuracy=6.0, rsgs_accuracy=6.0), "stress, lr 0.2: Tent below frozen"),
        (moved("single", parts_accuracy=8.0), "replicas: small parts cost"),
    ],
)
def test_a_control_that_does_not_behave_is_refuted(change: Callable[[str, Row], Row], control: str) -> None:
    verdicts, _ = concluded(made_up(change))
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == {SAFE, control}


def test_what_stays_as_it_is_is_safe_and_no_improvement() -> None:
    def same(label: str, row: Row) -> Row:
        return {"careful_accuracy": row["frozen_accuracy"] + 1e-5}

    verdicts, _ = concluded(made_up(same))
    assert (verdicts[SAFE], verdicts["RSGS above frozen, lr 0.002"]) == ("supported", "refuted")


def test_a_stream_without_new_examples_leaves_their_claims_open() -> None:
    def gone(label: str, row: Row) -> Row:
        return {name: None for name in row if name.endswith(("_new", "_harmonic"))}

    verdicts, report = concluded(made_up(gone))
    assert verdicts["calibration: new classes"] == "inconclusive"
    assert verdicts["batch statistics: AA"] == "supported"
    assert "not available" in report.answer


def test_the_stress_test_has_the_bars_of_its_preset() -> None:
    higher = replace(SETTINGS, bars=(10.0, 20.0))
    report = STUDY.report(higher, made_up())  # type: ignore[arg-type]  # rows are read only
    verdicts = {one.claim.name: one.verdict for one in judge(report.claims)}
    for what in ("AA", "new"):
        assert verdicts[f"stress, lr 0.2: RSGS above SAR, {what}"] == "refuted"
        assert verdicts[f"stress, lr 0.05: RSGS above SAR, {what}"] == "supported"
    assert STUDY.presets["long"].bars == (1.0, 4.0)


def test_all_bases_of_a_seed_have_its_data_its_stream_and_the_same_total_batch() -> None:
    runs = STUDY.runs(SETTINGS)
    for label, run in runs.items():
        data = run.task.data
        assert isinstance(data, EmergingClasses)
        assert isinstance(data.source, Digits)
        assert data.order == data.source.split == run.seed == int(label.split()[1])
        assert isinstance(run.batch_size, int)
        assert run.n * run.batch_size == SETTINGS.batch_size
    arms = [metric for metric in runs["single 0"].metrics if isinstance(metric, Drift)]
    assert len({arm.label for arm in arms}) == len(arms) == len(EXPECTED)
    still = {arm.label for arm in arms if arm.noise == 0}
    assert still == {"still", "still_source"}
    assert len({(arm.noise, arm.shots, arm.batch_size) for arm in arms if arm.label not in still}) == 1
