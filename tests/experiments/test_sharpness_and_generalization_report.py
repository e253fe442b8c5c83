"""What the study of sharpness and generalization concludes from histories that are made up: the paper's, and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

from dsgd.histories import Histories
from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY = find_study("sharpness_and_generalization")
SETTINGS = replace(STUDY.presets["standard"], seeds=5, seed=0)
ENDS = {  # trace, accuracy, training loss: what the paper says, and of the twin what the pilot found
    "none-sam": (27, 0.999, 5e-4),
    "none-decay": (66, 0.999, 7e-3),
    "bias-sam": (22.8, 0.7, 5e-4),
    "bias-decay": (75, 0.98, 7e-3),
    "ln-sam": (2.03, 0.98, 1e-4),
    "bn-sam": (8.8, 1.0, 1e-3),
    "one-bias-sam": (24, 0.9, 5e-4),
    "one-bias-sgd": (110, 0.63, 1e-6),
    "one-none-sam": (30, 0.95, 5e-4),
    "ring-bias-sam": (25, 0.82, 5e-4),
    "ring-bias-sgd": (140, 0.61, 1e-6),
    "ring-none-sam": (35, 0.83, 5e-4),
    "ring-none-sgd": (140, 0.61, 1e-6),
    "central-bias-sam": (25, 0.82, 5e-4),
    "central-bias-sgd": (140, 0.61, 1e-6),
    "central-none-sam": (35, 0.83, 5e-4),
}
Change = Callable[[str], dict[str, float]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and the explicit solutions, which take most of a report's time, are made in their own tests only."""
    monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))
    measured = STUDY.Explicit.measured  # type: ignore[attr-defined]  # a module's class
    monkeypatch.setattr(STUDY.Explicit, "measured", cache(measured))  # type: ignore[attr-defined]


def made_up(change: Change = lambda name: {}) -> Histories:
    """Each run's last row, the one in the middle of sim-LN's stages, and what `change` puts into the last."""
    stream, found = Random(1), {}
    for label, run in STUDY.runs(SETTINGS).items():
        name = label.split()[0]
        trace, accuracy, loss = ENDS[name]
        row: dict[str, Any] = {
            "step": run.steps,
            "gauss_newton_trace": trace * stream.gauss(1, 1e-3),
            "test_accuracy_mean_model": accuracy - 1e-4 * stream.random(),
            "train_loss_mean_model": loss * stream.uniform(0.9, 1.1),
            "head_l1": stream.gauss(2, 1e-3),
            "tail_share": 0.1,
            "consensus_distance": 0.1,
        }
        before = row | {"step": run.steps // 3, "test_accuracy_mean_model": 0.8 + 1e-3 * stream.random()}
        found[label] = [before, row | change(name)]
    return found


def concluded(histories: Histories) -> tuple[dict[str, str], Report]:
    report = STUDY.report(SETTINGS, histories)  # type: ignore[arg-type]  # rows are read only
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


def test_the_paper_s_numbers_support_every_claim_and_control() -> None:
    verdicts, report = concluded(made_up())
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert len(report.figures) == 4
    assert "With biases 1-SAM ends at Tr H 22.8 and accuracy 0.700 (the least trace is 22.27)" in report.answer


def test_the_explicit_solutions_are_the_papers() -> None:
    """Computed anew: 4 sqrt(31), 4 sqrt(31), 2, 2 and 0, 1, 0, 1."""
    table = concluded(made_up())[1].tables[0]
    shown = [(float(row[1]), float(row[3])) for row in table.rows]  # type: ignore[arg-type]  # numbers
    expected = [(22.2711, 0.0), (22.2711, 1.0), (2.0, 0.0), (2.0, 1.0)]
    for found, known in zip(shown, expected, strict=True):
        assert found == pytest.approx(known, abs=1e-4)


def only(name: str, **values: float) -> Change:
    """A change of the last row of the runs of one name."""
    full = {"accuracy": "test_accuracy_mean_model", "trace": "gauss_newton_trace", "loss": "train_loss_mean_model"}
    changed = {full.get(key, key): value for key, value in values.items()}
    return lambda of: changed if of == name else {}


@pytest.mark.parametrize(
    ("change", "refuted"),
    [
        (only("none-sam", accuracy=0.9), {"no bias, 1-SAM: accuracy"}),
        (only("none-sam", trace=40.0), {"no bias, 1-SAM: Tr H"}),
        (only("bias-sam", trace=24.0), {"bias, 1-SAM: Tr H"}),
        (only("bias-sam", trace=20.0), {"bias, 1-SAM: Tr H"}),
        (
            only("bias-sam", accuracy=0.99),
            {"bias, 1-SAM: accuracy", "bias: flatter and worse", "sim-LN above bias, 1-SAM"},
        ),
        (only("bias-decay", trace=30.0), {"bias: decay is sharper"}),
        (only("bias-decay", accuracy=0.6), {"bias, decay: accuracy", "bias: flatter and worse"}),
        (only("ln-sam", trace=2.5), {"sim-LN, 1-SAM: Tr H"}),
        (only("ln-sam", accuracy=0.6), {"sim-LN, 1-SAM: accuracy", "sim-LN above bias, 1-SAM"}),
        (only("bn-sam", accuracy=0.9), {"sim-BN, 1-SAM: accuracy"}),
        (only("bn-sam", head_l1=3.0), {"sim-BN, 1-SAM: head"}),
        (only("bn-sam", trace=12.0), {"sim-BN, 1-SAM: Tr H"}),
        (only("bias-sam", loss=0.5), {"bias, 1-SAM: fits"}),
        (only("none-decay", accuracy=0.9), {"no bias, decay: accuracy"}),
        (only("one-bias-sgd", trace=25.0), {"one model, bias: plain gradients do not flatten"}),
        (only("ring-bias-sgd", trace=25.0), {"ring, bias: spread does not flatten"}),
        (only("ring-bias-sgd", accuracy=0.9), {"ring, bias: 1-SAM is better than SGD"}),
        (only("ring-bias-sam", accuracy=0.95), {"ring, bias, 1-SAM: as accurate as C-SGD"}),
        (only("ring-none-sam", accuracy=0.7), {"ring, no bias, 1-SAM: as accurate as C-SGD"}),
        (only("one-bias-sam", accuracy=0.7), {"bias: 1-SAM averaged over examples is behind"}),
    ],
)
def test_other_numbers_refute_what_they_contradict(change: Change, refuted: set[str]) -> None:
    verdicts, _ = concluded(made_up(change))
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == refuted
    assert set(verdicts.values()) <= {"supported", "refuted"}


def test_a_net_that_generalised_at_once_is_no_rise() -> None:
    at_once = {"test_accuracy_mean_model": 0.95}
    found = {
        label: [dict(rows[0]) | (at_once if label.startswith("ln-sam") else {}), *rows[1:]]
        for label, rows in made_up().items()
    }
    verdicts, _ = concluded(found)
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == {"sim-LN, 1-SAM: accuracy before"}
