"""What the study of the edge concludes from histories that are made up: on the edge, beside it, never near it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dsgd.data import Shards
from dsgd.histories import Histories
from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY: Any = find_study("edge_of_stability")
SETTINGS = STUDY.presets["standard"]
RINGS = {name for name, arm in STUDY.ARMS.items() if arm.data != "one"}
Row = dict[str, Any]
Change = Callable[[str, Row], Row]


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, which take most of a report's time, are drawn in the first test only."""
    if request.node.name != test_what_theory_says_is_supported.__name__:
        monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


def row_at(label: str, step: int, stream: Random) -> Row:
    """On the edge, but for the controls that never come near, and for the mean and the replicas of shards."""
    name = label.rpartition(" ")[0]
    ratio, edge = 1.005 + stream.gauss(0, 0.002), 12.0 if name == "SSAM-U 0.1 0.2" else 8.0
    whose = {"edge_ratio": ratio, "edge_ratio_replicas": ratio, "edge_ensemble": ratio}
    if name in STUDY.NEVER:
        whose["edge_ratio"] = 0.6 + stream.gauss(0, 0.01)
    if name in STUDY.SHARDED:
        whose |= {"edge_ratio": ratio - 0.1, "edge_ratio_replicas": ratio + 0.2}
    if name not in RINGS:
        del whose["edge_ratio_replicas"], whose["edge_ensemble"]
    if label.startswith("quadratic"):
        whose = {"edge_ratio": 1.1 if step == 200 else 0.99 + stream.gauss(0, 0.001)}
    ends = ("", "_replicas") if name in RINGS else ("",)
    levels = {f"edge_predicted{end}": edge for end in ends}
    levels |= {f"edge_lambda_max{end}": edge * whose[f"edge_ratio{end}"] for end in ends}
    return {"step": step, "trace_xi": 1e-3, "train_loss_mean_model": 1e-9, **whose, **levels}


def made_up(change: Change = lambda label, row: {}) -> Histories:
    stream = Random(1)

    def history(label: str) -> list[Row]:
        rows = [row_at(label, step, stream) for step in range(0, 1001, 100)]
        return [row | change(label, row) for row in rows]

    return {label: history(label) for label in STUDY.runs(SETTINGS)}


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    report = STUDY.report(SETTINGS, histories)
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


def test_what_theory_says_is_supported() -> None:
    verdicts, report = concluded(made_up())
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert len(report.figures) == 5
    assert report.answer.startswith("Quadratic regression models that cross the edge and converge end at 0.990 of it")
    assert "Networks settle at the edge" in report.answer
    assert "the joint step sits at the edge" in report.answer


def scaled(start: str, name: str, factor: float) -> Change:
    """A change of one metric in the runs whose label starts so."""
    return lambda label, row: {name: factor * row[name]} if label.startswith(start) and name in row else {}


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (scaled("USAM 0.1 0.2", "edge_ratio", 0.97), {"USAM 0.1 0.2"}),
        (scaled("SAM 0.1", "edge_ratio", 1.1), {"SAM 0.1 0.05", "SAM 0.1 0.1"}),
        (scaled("SSAM-U 0.2", "edge_ratio", 0.5), {"SSAM-U 0.2 0.2"}),
        (scaled("GD 0.2", "edge_lambda_max", 1.2), {"one edge for GD and USAM"}),
        (scaled("SSAM-U 0.1", "edge_lambda_max", 0.7), {"SSAM gives up USAM's hold"}),
        (scaled("D-GD equal ring", "edge_ratio_replicas", 3.0), {"D-GD equal ring", "D-GD equal ring ATC"}),
        (scaled("D-SAM equal", "edge_ratio_replicas", 0.5), {"D-SAM equal ring"}),
        (scaled("D-GD shards ring", "edge_ensemble", 1.3), {"D-GD shards ring"}),
        (scaled("D-GD shards ring", "edge_ratio", 1.2), {"shards: the mean is below"}),
        (scaled("D-GD shards ring", "edge_ratio_replicas", 0.7), {"shards: replicas are above"}),
        (scaled("GD 0.1", "edge_ratio", 1.6), {"GD 0.1: edge not reached"}),
        (scaled("USAM 0.05", "edge_ratio", 1.6), {"USAM 0.05 0.05: edge not reached"}),
        (scaled("D-GD shards complete", "edge_ratio", 0.9), {"complete graph: GD"}),
        (scaled("quadratic 0.2", "edge_ratio", 0.975), {"quadratic model, rho 0.2"}),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(change: Change, refuted: set[str]) -> None:
    verdicts, _ = concluded(made_up(change))
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == refuted
    assert {verdict for name, verdict in verdicts.items() if name not in refuted} == {"supported"}


def test_the_answer_says_where_the_edge_is_missed() -> None:
    _, report = concluded(made_up(scaled("D-GD equal complete", "edge_ratio_replicas", 0.8)))
    assert "Replicas of equal losses settle not everywhere at the edge" in report.answer


def test_a_band_that_is_wide_is_refuted_though_its_median_is_on_the_edge() -> None:
    def wide(label: str, row: Row) -> Row:
        return {"edge_ratio": row["edge_ratio"] + 0.1 * (row["step"] % 400 == 0)} if label.startswith("GD 0.2") else {}

    verdicts, _ = concluded(made_up(wide))
    assert verdicts["GD, USAM: 10-90 band"] == "refuted"
    assert verdicts["GD 0.2"] == "supported"


@pytest.mark.parametrize("loss", [1e-3, 1e-9])
def test_quadratic_models_count_where_they_cross_and_converge(loss: float) -> None:
    """One alone does both, and is what is told."""

    def few(label: str, row: Row) -> Row:
        if not label.startswith("quadratic") or label == f"quadratic 0.2 0 {SETTINGS.seed}":
            return {}
        return {"train_loss_mean_model": 1e-3} if loss > 1e-6 else {"edge_ratio": min(row["edge_ratio"], 0.99)}

    verdicts, report = concluded(made_up(few))
    assert verdicts["quadratic model, how many"] == "refuted"
    assert "the median of 1" in report.answer


def test_no_quadratic_model_crosses() -> None:
    verdicts, report = concluded(made_up(scaled("quadratic", "edge_ratio", 0.5)))
    assert {verdicts[f"quadratic model, rho {rho:g}"] for rho in STUDY.RHOS} == {"inconclusive"}
    assert "end nowhere, for none does" in report.answer


def test_the_runs_are_what_their_names_say() -> None:
    runs = STUDY.runs(SETTINGS)
    assert all(run.batch_size == "full" for run in runs.values())
    for label, run in runs.items():
        shared = label.split()[0].startswith("D-") and " shards " in label
        assert isinstance(run.task.partition, Shards) == shared
        assert (run.gradient_noise > 0) == (" equal " in label)
    assert runs[f"USAM 0.1 0.3 {SETTINGS.seed}"].gradient.rho == 0.3


def test_every_landscape_is_another() -> None:
    runs = STUDY.runs(SETTINGS)
    landscapes = [run.model.landscape for label, run in runs.items() if label.startswith("quadratic 0 ")]
    assert len(set(landscapes)) == len(landscapes) == SETTINGS.seeds * SETTINGS.landscapes
