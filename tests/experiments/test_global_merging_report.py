"""What the study of one global merging concludes from histories that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of

STUDY = find_study("global_merging")
SETTINGS = replace(STUDY.presets["standard"], seeds=10, seed=0)
LOCAL = {"often": 0.9, "rare": 0.7, "never": 0.3, "apart": 0.93, "centralized": 0.95}
MERGED = {"often": 0.945, "rare": 0.94, "never": 0.5, "apart": 0.2, "centralized": 0.95}
Row = dict[str, Any]


def row(step: int, data: str, gossip: str, stream: Random) -> Row:
    """As the paper has it: merging closes the gap, but where nobody ever spoke to anybody with other data."""
    merged = 0.95 if data == "shared" and gossip != "apart" else MERGED[gossip]
    far = 1.5 if (data, gossip) == ("skewed", "never") else 1.0
    local = 0.93 if data == "shared" and gossip != "centralized" else LOCAL[gossip]
    return {
        "step": step,
        "test_accuracy_replicas_mean": local + stream.gauss(0, 1e-3),
        "test_accuracy_mean_model": merged + stream.gauss(0, 1e-3),
        "trace_xi": 0.1,
        "half_trace_h_xi": 0.2,
        "merging_gain_loss_test": 0.2,
        "merging_gain_loss_train": 0.2 * far * stream.gauss(1, 1e-2),
        "merging_gain_loss_shards": -0.1 + stream.gauss(0, 1e-3),
    }


def concluded(changed: Callable[[str, Row], Row] = lambda label, row: row) -> tuple[dict[str, str], Report]:
    stream, found = Random(1), {}
    for label in STUDY.runs(SETTINGS):
        data, gossip, _ = label.split()
        found[label] = [changed(label, row(step, data, gossip, stream)) for step in (0, 100, 200)]
    return verdicts_of(STUDY, SETTINGS, found)


def test_what_the_paper_says_supports_every_claim_and_control(drawn: None) -> None:
    verdicts, report = concluded()
    assert set(verdicts.values()) == {"supported"}, verdicts
    assert len(report.figures) == 3
    assert report.answer.endswith("Not as stated: nothing.")
    assert "rare 0.700 to 0.940" in report.answer


def test_a_merged_model_that_stays_behind_is_not_as_centralized() -> None:
    def behind(label: str, row: Row) -> Row:
        late = label.startswith("skewed rare")
        return row | {"test_accuracy_mean_model": row["test_accuracy_mean_model"] - 0.1} if late else row

    verdicts, report = concluded(behind)
    assert verdicts["skewed, rare: as centralized"] == "refuted"
    assert "skewed, rare: as centralized (refuted)" in report.answer


def test_a_merging_that_harms_on_the_way_is_not_ahead() -> None:
    def harmed(label: str, row: Row) -> Row:
        return row | {"merging_gain_loss_test": -0.1} if row["step"] == 100 and "often" in label else row

    assert concluded(harmed)[0]["shared, often: ahead all the way"] == "refuted"


def test_controls_that_pass_the_bars_are_refuted() -> None:
    def as_good(label: str, row: Row) -> Row:
        near = {"test_accuracy_mean_model": 0.95, "test_accuracy_replicas_mean": 0.95}
        good = {name: value + row["trace_xi"] * 1e-3 * int(label.split()[-1]) for name, value in near.items()}
        return row | good | {"merging_gain_loss_train": 0.2}

    verdicts, _ = concluded(as_good)
    controls = ("shared, apart: merging harms", "skewed, rare: the local models", "skewed, never: merging alone")
    assert {verdicts[name] for name in (*controls, "skewed, never: the gain in loss")} == {"refuted"}
