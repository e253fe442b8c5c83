"""What the shoot-out of the methods tunes, trains and concludes, from histories that are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsgd.data import Digits, HeldOut, LabelNoise
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.histories import Histories
from dsgd.study import Report, find_study
from tests.experiments.concluding import verdicts_of

STUDY: Any = find_study("sam_shootout")
SETTINGS = replace(STUDY.presets["standard"], seeds=8)
TUNED = {"SGD": "0.06 0", "SGD-half": "0.1 0", "SAM": "0.03 0.06"}  # the other methods: all equally good
GOOD = {name: 0.9 - 0.004 * place for place, name in enumerate(("SAM", "ASAM", "FisherSAM", "VaSSO", "SSAM"))}

Change = Callable[[str], float | None]


def accuracy(label: str) -> float:
    """SAM and its kin are best, and on the ring by as much; SGD is last of those whose order matters."""
    setting, place, name = label.split()[:3]
    base = {"SGD-half": 0.82, "N(0,Xi)": 0.81}.get(name, GOOD.get(name, 0.8))
    if name not in GOOD and not name.startswith(("SGD", "random-0", "N(")):
        base += 0.002 * list(STUDY.METHODS).index(name)
    if setting == "clean" and name == "SGD-half":
        base = 0.79
    return base + 0.02 * (place == "ring")


def tuning(change: Change = lambda label: None) -> Histories:
    found = dict[str, list[dict[str, Any]]]()
    for label in STUDY.runs(SETTINGS):
        _, _, _, name, lr, rho, _ = label.split()
        other = change(label)
        best = TUNED.get(name) == f"{lr} {rho}"
        found[label] = [{"test_accuracy_mean_model": (0.7 + 0.1 * best) if other is None else other}]
    return found


def concluded(
    change: Change = lambda label: None, curvature: Change = lambda label: None, seed: int = 1
) -> tuple[dict[str, str], Report, dict[str, list[dict[str, Any]]]]:
    """The verdicts where `change` puts another accuracy (below 0: diverged), and `curvature` another lambda_max."""
    stream, found = Random(seed), {label: list(map(dict, rows)) for label, rows in tuning().items()}
    noise = {s: stream.gauss(0, 1e-3) for s in range(SETTINGS.seed, SETTINGS.seed + 2000)}
    for label in STUDY.runs_after(SETTINGS, found):
        value, own = change(label), curvature(label)
        value = accuracy(label) if value is None else value
        shared = noise[int(label.split()[-1])] + (0 if "random-0" in label else stream.gauss(0, 1e-4))
        if value < 0:
            found[label] = [{"step": 3, "diverged": 1.0}]
            continue
        sharp = (10 * (1 - value) if own is None else own) * (1 + 0.01 * stream.random())
        names = ("ece_mean_model", "nll_mean_model", "hessian_trace", "sharpness_ascent", "sharpness_average")
        row = dict.fromkeys(names, sharp) | {"lambda_max": sharp, "test_accuracy_mean_model": value + shared}
        found[label] = [row | {"test_accuracy_replicas_mean": value + shared - 0.01}]
    verdicts, report = verdicts_of(STUDY, SETTINGS, found)
    return verdicts, report, found


def broken(change: Change = lambda label: None, curvature: Change = lambda label: None) -> set[str]:
    """What is not supported."""
    return {name for name, verdict in concluded(change, curvature)[0].items() if verdict != "supported"}


def put(start: str, value: float) -> Change:
    return lambda label: value if label.startswith(f"{start} ") else None


def test_what_was_made_up_is_found() -> None:
    verdicts, report, _ = concluded()
    assert {name for name, verdict in verdicts.items() if verdict != "supported"} == set()
    assert "Noisy labels, ring: SAM has the best mean rank, 1.0 [1.0, 1.0] of 18" in report.answer
    assert "with few examples is the same and with noisy labels is the same" in report.answer


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (put("noisy alone ASAM", 0.78), {"noisy: ASAM above SGD"}),
        (put("noisy alone SGD-half", 0.95), {"noisy: SAM above SGD of as few steps"}),
        (put("clean alone SAM", 0.799), {"clean: SAM above SGD", "clean, alone: SAM flatter"}),
        (put("clean alone SGD-half", 0.81), {"half of the budget"}),
        (put("clean alone SGD-again", 0.77), {"SGD with other seeds"}),
        (put("noisy ring random-0", 0.7), {"radius 0 is SGD"}),
    ],
)
def test_what_is_not_so_is_not_supported_and_nothing_else(change: Change, expected: set[str]) -> None:
    assert broken(change) == expected


def test_another_order_on_the_ring_is_found() -> None:
    """Better and worse methods change places there."""
    names = [name for name, method in STUDY.METHODS.items() if name != "N(0,Xi)"]

    def turned(label: str) -> float | None:
        setting, place, name = label.split()[:3]
        return 1.7 - accuracy(label) if (setting, place) == ("noisy", "ring") and name in names else None

    verdicts = concluded(turned)[0]
    assert verdicts["noisy: the same order on the ring"] == "refuted"
    assert verdicts["clean: the same order on the ring"] == "supported"
    assert verdicts["noisy, ring: SAM above D-SGD"] == "refuted"


def test_sharper_methods_that_are_more_accurate_refute_flatness() -> None:
    verdicts = concluded(curvature=lambda label: 10 * accuracy(label) if label.startswith("noisy alone") else None)[0]
    assert verdicts["noisy, alone: flatter is better"] == verdicts["noisy, alone: SAM flatter"] == "refuted"
    assert verdicts["noisy, ring: flatter is better"] == "supported"


def test_diverged_runs_count_as_chance_and_have_no_curvature() -> None:
    verdicts, report, _ = concluded(put("noisy ring SAM", -1))
    assert verdicts["noisy, ring: SAM above D-SGD"] == "refuted"
    assert verdicts["noisy, ring: SAM flatter"] == "inconclusive"
    (row,) = [row for row in report.tables[3].rows if row[0] == "SAM"]
    cells = dict(zip(report.tables[3].columns, row, strict=True))
    assert (cells["accuracy, %"], cells["rank"], cells["diverged"]) == ("10.00 [10.00, 10.00]", "18.0 [18.0, 18.0]", 8)
    assert cells["λ_max"] == "not available"


def test_the_best_pair_on_held_out_examples_is_trained_and_of_equal_ones_the_first() -> None:
    runs = STUDY.runs_after(SETTINGS, tuning())
    rates = {name: runs[f"noisy ring {name} 800"].learning_rate.lr for name in ("SGD", "SGD-again", "SGD-half", "SAM")}
    assert rates == {"SGD": 0.06, "SGD-again": 0.06, "SGD-half": 0.1, "SAM": 0.03}
    assert runs["noisy ring SAM 800"].gradient.rho == pytest.approx(0.06)
    assert (runs["clean alone ASAM 800"].learning_rate.lr, runs["clean alone ASAM 800"].gradient.rho) == (0.003, 0.3)
    diverging = STUDY.runs_after(SETTINGS, tuning(put("tuning noisy ring SAM 0.03 0.06", 0.05)))
    radii = [diverging[f"noisy {place} SAM 800"].gradient.rho for place in STUDY.PLACES]
    assert radii == pytest.approx([0.05, 0.015])


def test_all_methods_have_as_many_knobs_and_gradients() -> None:
    for settings in STUDY.presets.values():
        assert (
            len({len(settings.grid(name, place)) for name in (*STUDY.METHODS, STUDY.HALF) for place in STUDY.PLACES})
            == 1
        )
    for run in STUDY.runs(SETTINGS).values():
        assert run.n * run.batch_size == 64
    for name, method in {**STUDY.METHODS, STUDY.HALF: STUDY.RIVAL}.items():
        steps = SETTINGS.steps(name)
        assert steps * method.cost <= SETTINGS.budget + 1e-6 < (steps + 1) * method.cost
    assert (SETTINGS.steps("SGD"), SETTINGS.steps("SAM"), SETTINGS.steps("LookSAM")) == (600, 300, 500)


def test_every_method_but_rsgs_takes_part_at_what_it_says_that_it_costs() -> None:
    at = STUDY.At(16, 50.0)
    gradients = {name: method.gradient(0.1, at) for name, method in STUDY.METHODS.items()}
    assert {type(gradient) for gradient in gradients.values()} == set(GRADIENTS.values()) - {GRADIENTS["rsgs"]}
    said = {"samples": 1, "2 samples, or 2 rank of Xi": 2, "1 + 1/k": 1 + 1 / STUDY.LOOK}
    said |= {str(count): count for count in (1, 2, 3)} | {"2 and 2 forward passes; fisher 3, or 2": 8 / 3}
    for name, gradient in gradients.items():
        cost: Any = type(gradient).cost
        assert STUDY.METHODS[name].cost == pytest.approx(said[cost]), name
    assert gradients["m-SAM"].m == 4
    assert gradients["LookSAM"].k == STUDY.LOOK


def test_tuning_sees_neither_the_verdicts_seeds_nor_its_test_examples() -> None:
    tuned, judged = STUDY.runs(SETTINGS), STUDY.runs_after(SETTINGS, tuning())
    assert {run.seed for run in tuned.values()} == {40, 41, 42}
    assert not {run.seed for run in judged.values()} & {40, 41, 42}
    for setting in ("clean", "noisy"):
        few, many = (
            runs.task.data
            for runs in (tuned[f"tuning {setting} ring SGD 0.06 0 40"], judged[f"{setting} ring SGD 801"])
        )
        assert isinstance(few, LabelNoise) == isinstance(many, LabelNoise) == (setting == "noisy")
        held, source = (data.source if isinstance(data, LabelNoise) else data for data in (few, many))
        assert isinstance(held, HeldOut)
        assert isinstance(source, Digits)
        assert (source.split, len(few.load().train)) == (801, len(many.load().train))
        assert (few.load().test.x == held.source.load().train.x[-500:]).all()


def test_sgd_once_more_has_other_seeds_on_the_same_data() -> None:
    runs = STUDY.runs_after(SETTINGS, tuning())
    once, more = runs["noisy alone SGD 803"], runs["noisy alone SGD-again 803"]
    assert (once.task, once.gradient, more.seed) == (more.task, Plain(), 1203)
    assert replace(more, seed=once.seed) == once


def test_figures_are_drawn(drawn: None) -> None:
    figures = concluded()[1].figures
    assert [figure.title for figure in figures] == [
        "Ranks",
        "Accuracy over sharpness, few examples",
        "Accuracy over sharpness, noisy labels",
    ]
    assert all("<svg" in figure.svg for figure in figures)
