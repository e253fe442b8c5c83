"""What the study of calibration concludes from histories that are made up: sharpness, the weight, or nothing."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dsgd.gradients.csam import Csam
from dsgd.gradients.plain import Plain
from dsgd.gradients.sam import Sam
from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY = find_study("calibration")
SETTINGS = STUDY.presets["standard"]
POINT = 0.01
SHARP = {  # what sharpness would do, and D-SGD with it: accuracy, ECE, NLL, NLL after a temperature
    "one SGD": (0.84, 6 * POINT, 0.50, 0.48),
    "one weight": (0.84, 4.5 * POINT, 0.48, 0.48),
    "one SAM": (0.85, 5 * POINT, 0.46, 0.44),
    "one SAM-large": (0.86, 4 * POINT, 0.43, 0.42),
    "one CSAM": (0.855, 3 * POINT, 0.44, 0.43),
    "one CSAM-large": (0.86, 3 * POINT, 0.42, 0.42),
    "ring SGD": (0.85, 4 * POINT, 0.46, 0.45),
    "ring SAM-small": (0.86, 3 * POINT, 0.44, 0.42),
    "ring CSAM-small": (0.86, 3 * POINT, 0.44, 0.42),
    "ring SAM-large": (0.86, 2.5 * POINT, 0.42, 0.41),
    "ring CSAM": (0.86, 2.5 * POINT, 0.42, 0.41),
    "complete SGD": (0.84, 6 * POINT, 0.50, 0.48),
    "recalibrated SGD": (0.85, 4.2 * POINT, 0.46, 0.45),
}


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


def concluded(**other: dict[str, float]) -> tuple[dict[str, str], Report]:
    """The verdicts where the runs named, with an underscore for the space, have other values of some metrics."""
    stream, found = Random(1), dict[str, list[dict[str, Any]]]()
    for label in STUDY.runs(SETTINGS):
        run = label.rpartition(" ")[0]
        accuracy, ece, nll, calibrated = SHARP[run]
        values = {"accuracy": accuracy, "ece": ece, "nll": nll, "nll_calibrated": calibrated, "brier": 0.2}
        values |= {"ece_calibrated": 0.02, "temperature": 1.4} | other.get(run.replace(" ", "_"), {})
        found[label] = [{f"{name}_mean_model": value + stream.gauss(0, 1e-3) for name, value in values.items()}]
    report = STUDY.report(SETTINGS, found)
    return {one.claim.name: one.verdict for one in judge(report.claims)}, report


def test_sharpness_supports_every_claim_and_control() -> None:
    verdicts, report = concluded()
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert "SAM(1) changes SGD's ECE by -" in report.answer
    assert "what CSAM does to it is not the work of that weight alone" in report.answer
    assert "it does calibrate as SAM does" in report.answer


@pytest.mark.parametrize(
    ("run", "values", "refuted"),
    [
        ("one_SAM-large", {"ece": 6 * POINT}, {"SAM: ECE"}),
        ("one_SAM-large", {"accuracy": 0.82}, {"SAM: accuracy"}),
        ("one_SAM-large", {"nll_calibrated": 0.5}, {"SAM: NLL beyond a temperature"}),
        ("one_SAM", {"ece": 3 * POINT}, {"CSAM beyond SAM: ECE"}),
        ("one_CSAM", {"accuracy": 0.83}, {"CSAM beyond SAM: accuracy"}),
        ("one_CSAM", {"nll": 0.49}, {"CSAM beyond the weight: NLL"}),
        ("one_CSAM", {"nll": 0.55}, {"CSAM: NLL", "CSAM beyond the weight: NLL"}),
        ("one_weight", {"ece": 6 * POINT}, {"weight alone: ECE"}),
        ("one_weight", {"ece": 2 * POINT}, {"CSAM beyond the weight: ECE"}),
        ("complete_SGD", {"ece": 4 * POINT}, {"D-SGD beyond its small batches: ECE"}),
        ("ring_SAM-large", {"ece": 5 * POINT}, {"ring, SAM: ECE"}),
        ("ring_CSAM", {"nll": 0.5}, {"ring, CSAM: NLL"}),
        ("ring_SAM-small", {"ece": 5 * POINT}, {"ring, small radius, SAM: ECE"}),
        ("ring_CSAM-small", {"nll": 0.5}, {"ring, small radius, CSAM: NLL"}),
        ("recalibrated_SGD", {"ece": 6 * POINT}, {"running statistics"}),
        ("one_SGD", {"temperature": 1.0}, {"SGD is overconfident"}),
        ("one_SGD", {"ece_calibrated": 6 * POINT}, {"a temperature mends it"}),
    ],
)
def test_what_is_not_so_is_refuted_and_nothing_else(run: str, values: dict[str, float], refuted: set[str]) -> None:
    verdicts, _ = concluded(**{run: values})
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == refuted


def test_a_ring_that_does_nothing_is_said_to() -> None:
    verdicts, report = concluded(ring_SGD={"ece": 6 * POINT}, recalibrated_SGD={"ece": 6 * POINT})
    assert verdicts["D-SGD: ECE"] == verdicts["D-SGD beyond its small batches: ECE"] == "refuted"
    assert "it does not calibrate as SAM does" in report.answer


def test_the_weight_is_said_to_do_what_it_does() -> None:
    assert "what CSAM does to it is mostly the work of that weight" in concluded(one_weight={"ece": 0.02})[1].answer


def test_the_methods_are_those_of_their_names() -> None:
    methods = ("SGD", "weight", "SAM", "SAM-small", "SAM-large", "CSAM", "CSAM-small", "CSAM-large")
    sams, csams = (Sam(0.5), Sam(0.1), Sam(1.0)), (Csam(0.5, 2.0), Csam(0.1, 2.0), Csam(1.0, 2.0))
    gradients = (Plain(), Csam(0.0, 2.0), *sams, *csams)
    assert tuple(map(SETTINGS.gradient, methods)) == gradients
    runs = STUDY.runs(SETTINGS)
    assert {run.n * run.batch_size for run in runs.values()} == {64}
    assert {label.split()[0]: (run.n, run.algorithm, run.running_statistics) for label, run in runs.items()} == {
        "one": (1, "consensus", "mix"),
        "ring": (8, "consensus", "mix"),
        "complete": (8, "adapt_then_combine", "mix"),
        "recalibrated": (8, "consensus", "recalibrate"),
    }


def test_every_seed_has_a_split_and_noise_of_its_own() -> None:
    data: list[Any] = [(run.task.data, run.seed) for run in STUDY.runs(SETTINGS).values()]
    assert all((noise.draw, noise.source.split) == (seed, seed) for noise, seed in data)
