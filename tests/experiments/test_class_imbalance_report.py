"""What the study of class imbalance concludes from histories that are made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsgd.data import Dirichlet, LongTail
from dsgd.gradients.imb_sam import ImbSam
from dsgd.histories import Histories
from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY = find_study("class_imbalance")
SETTINGS = STUDY.presets["standard"]
COUNTS = [int(count) for count in replace(SETTINGS.data, split=0).counts(10)]
GROUPS = ("many", "medium", "few", "all")
Points = tuple[float, float, float]  # of the many-, medium- and few-shot classes

AS_PUBLISHED: Mapping[str, Points] = {
    "SGD": (97.3, 92.2, 61.2),
    "SGD-x2": (97.5, 93.2, 64.6),
    "SAM": (97.7, 93.2, 60.2),
    "ImbSAM": (97.0, 94.7, 67.0),
    "ImbSAM-x2": (96.8, 95.5, 70.2),
    "ImbSAM-rarest": (97.0, 92.2, 63.2),
    "ImbSAM-far": (97.0, 35.0, 10.0),
    "small-SGD": (97.0, 91.0, 52.0),
    "small-ImbSAM": (97.0, 93.0, 56.0),
    "ring-SGD": (97.3, 92.2, 61.2),
    "ring-SAM": (97.7, 93.2, 61.2),
    "ring-ImbSAM": (97.0, 94.7, 67.0),
    "ring-rarest": (97.0, 92.2, 64.0),
    "ring-local": (97.0, 92.7, 62.0),
    "ring-share": (97.0, 93.7, 64.0),
}


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, which take most of a report's time, are drawn in the first test only."""
    if request.node.name != test_what_was_published_supports_every_claim_and_control.__name__:
        monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


def made_up(**points: Points) -> Histories:
    """As published but for some methods; what a seed adds to all of its runs is more than what it adds to one."""
    stream, found = Random(1), {}
    easy = {seed: stream.gauss(0, 3) for seed in SETTINGS.verdict_seeds}
    for label in STUDY.runs(SETTINGS):
        name, seed = label.split()
        given = points.get(name.replace("-", "_"), AS_PUBLISHED[name])
        of_group = [(value + easy[int(seed)] + stream.gauss(0, 0.3)) / 100 for value in given]
        sizes = (3, 3, 4)
        of_group.append(sum(size * value for size, value in zip(sizes, of_group, strict=True)) / 10)
        row: dict[str, Any] = {"step": 414, "trace_xi": 1e-6 if name.startswith("ring") else 0.0}
        row |= {"train_accuracy_mean_model": 1.0, "gauge_tail": 0.3}
        for group, value in zip(GROUPS, of_group, strict=True):
            row |= {f"class_accuracy_{group}_{whose}": value for whose in ("mean_model", "replicas_mean")}
        by_rank = [of_group[0]] * 3 + [of_group[1]] * 3 + [of_group[2]] * 4
        pairs = sorted(zip(sorted(COUNTS, reverse=True), by_rank, strict=True), key=lambda _: stream.random())
        row["class_training_examples"], row["class_accuracies_mean_model"] = map(list, zip(*pairs, strict=True))
        found[label] = [{"step": 0, "trace_xi": 0.0}, row]
    return found


def concluded(**points: Points) -> tuple[dict[str, str], Report]:
    report = STUDY.report(SETTINGS, made_up(**points))  # type: ignore[arg-type]
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


def test_what_was_published_supports_every_claim_and_control() -> None:
    verdicts, report = concluded()
    assert len(report.figures) == 2
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert "7 of the 7 bars of the reproduction are met" in report.answer
    assert "that global counts are better than these is supported" in report.answer


@pytest.mark.parametrize(
    ("points", "refuted"),
    [
        (
            {"ImbSAM": (97.0, 98.0, 59.2)},
            {"Few: ImbSAM above SGD", "Few: ImbSAM above SGD by 3"},
        ),
        ({"ImbSAM": (97.0, 96.5, 63.2)}, {"Few: ImbSAM above SGD by 3"}),
        ({"SAM": (99.0, 97.0, 62.5)}, {"ALL: ImbSAM above SAM by 0.7", "Few: SAM does not help"}),
        ({"ImbSAM": (92.0, 97.0, 69.0)}, {"Many: little lost"}),
        ({"ImbSAM_x2": (96.8, 92.5, 63.0)}, {"ALL: ImbSAM above SGD, tail loss x 2"}),
        ({"SAM": (97.7, 93.2, 62.2)}, {"Few: SAM does not help"}),
        ({"small_ImbSAM": (97.0, 93.0, 47.0)}, {"Few: ImbSAM above SGD, small start"}),
        ({"ring_local": (97.0, 94.7, 69.0)}, {"ring, ALL: global counts above local"}),
        ({"ring_share": (97.0, 94.7, 69.0)}, {"ring, ALL: global counts above local counts against eta / n"}),
        ({"ring_SAM": (97.7, 97.0, 68.0)}, {"ring, ALL: ImbSAM above SAM"}),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(points: dict[str, Points], refuted: set[str]) -> None:
    verdicts, _ = concluded(**points)
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == refuted


def test_a_ring_on_which_nothing_is_gained() -> None:
    """Its bounds meet D-SGD's, so that claims of differences are open and the share of the gain is refuted."""
    verdicts, _ = concluded(ring_ImbSAM=AS_PUBLISHED["ring-SGD"])
    assert verdicts["ring, ALL: half of the gain is kept"] == "refuted"
    assert verdicts["ring, Few: ImbSAM above D-SGD"] == "inconclusive"


@pytest.mark.parametrize(
    ("points", "control"),
    [
        ({"ImbSAM_far": (97.0, 90.0, 60.0)}, "Few: too large a radius ruins them"),
        ({"ImbSAM_rarest": (97.0, 96.7, 63.2)}, "Medium: only the tail is helped"),
        ({"ring_SGD": (90.0, 85.0, 50.0)}, "ring: label skew alone changes little"),
        ({"ring_SGD": (99.0, 97.0, 68.0)}, "ring: label skew alone changes little"),
    ],
)
def test_a_control_that_does_not_behave_is_refuted(points: dict[str, Points], control: str) -> None:
    assert concluded(**points)[0][control] == "refuted"


def test_an_estimate_on_its_bar_meets_it_whatever_its_interval() -> None:
    """And one above it does not make the interval's claim: that is judged beside it."""
    noisy = [100.0 * (-1) ** seed + 3.5 for seed in range(16)]
    claim = STUDY._estimate("bar", noisy, 3.0)  # type: ignore[attr-defined]  # a study is any module
    wide = STUDY._above("interval", noisy, "x")  # type: ignore[attr-defined]
    assert [one.verdict for one in judge([claim, wide])] == ["supported", "inconclusive"]
    assert judge([replace(claim, values=(2.99,))])[0].verdict == "refuted"


def test_the_runs_of_a_seed_share_their_data_and_no_two_seeds_do() -> None:
    runs = STUDY.runs(SETTINGS)
    data = {(run.seed, run.task.data) for run in runs.values()}
    assert len(data) == len({seed for seed, _ in data}) == SETTINGS.seeds
    assert all(isinstance(one, LongTail) and one.split == one.source.split == seed for seed, one in data)  # type: ignore[attr-defined]


def test_every_method_has_as_many_examples_and_the_ring_is_skewed() -> None:
    runs = STUDY.runs(SETTINGS)
    assert {(run.n * run.batch_size, run.steps) for run in runs.values()} == {(64, 414)}
    skewed = {label.split()[0] for label, run in runs.items() if isinstance(run.task.partition, Dirichlet)}
    assert skewed == {name for name in AS_PUBLISHED if name.startswith("ring")}


def test_the_weights_and_thresholds_of_the_tail() -> None:
    methods = STUDY.methods(SETTINGS)  # type: ignore[attr-defined]
    imbalanced = {name: method for name, method in methods.items() if isinstance(method, ImbSam)}
    assert {name for name, method in imbalanced.items() if method.rho == 0} == {"SGD-x2"}
    assert {name for name, method in imbalanced.items() if method.tail_weight == 2} == {"SGD-x2", "ImbSAM-x2"}
    assert {name: method.eta for name, method in imbalanced.items() if method.counts == "local"} == {
        "ring-local": 40,
        "ring-share": 5,
    }


def test_a_model_without_another_start_makes_no_claim_of_one() -> None:
    settings = replace(SETTINGS, small=None)
    assert not [label for label in STUDY.runs(settings) if label.startswith("small")]
    report = STUDY.report(settings, made_up())  # type: ignore[arg-type]
    assert not [claim.name for claim in report.claims if "small start" in claim.name]
    assert "smaller start" not in report.answer
