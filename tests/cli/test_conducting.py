"""`dsgd study` answers whatever the verdicts, takes changes by name, and says what is broken in a line."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from dsgd import study

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", "mine.py cannot be loaded: SyntaxError: "),
        ("import gone", "mine.py cannot be loaded: ModuleNotFoundError: No module named 'gone'"),
        ("question = 'x'", "mine.py is not a study: it lacks presets, runs, report"),
        (
            "question, presets, runs, report = 'x', {'smoke': 1}, print, print",
            "preset smoke of study mine must be a dataclass with the fields seeds and seed",
        ),
    ],
)
def test_a_broken_study_is_one_line(dsgd_command: Dsgd, tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    status, out, err = dsgd_command("study", "./mine.py")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


SUMMARY = {
    "study": "sums",
    "preset": "standard",
    "answer": "It adds.\n\nTwice.",
    "claims": [
        {"name": "it adds", "kind": "claim", "estimate": 2.0, "ci": [1.5, 2.5], "criterion": "2", "verdict": "refuted"}
    ],
}


def test_a_study_exits_0_whatever_its_verdicts(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*_: Any, progress: Any, **__: Any) -> dict[str, Any]:
        progress(0, 1, "first", None)
        progress(1, 1, "", 0.0)
        return SUMMARY

    monkeypatch.setattr(study, "conduct", conduct)
    status, out, err = dsgd_command("study", "equivalence", "--json")
    assert (status, json.loads(out)) == (0, SUMMARY)
    assert err.splitlines() == ["run 0/1  first", "run 1/1  0 s left"]
    status, out, _ = dsgd_command("study", "equivalence")
    assert out.splitlines() == [
        "refuted  claim  it adds  2.00  [1.50, 2.50]",
        "",
        "0 of 1 claim supported (1 refuted).",
        "",
        "It adds.",
        "",
        "Twice.",
        "",
        "report: runs/study-equivalence-standard/report.html",
    ]
    status, out, _ = dsgd_command("study", "equivalence", "--seed", "7")
    assert out.splitlines()[-1] == "report: runs/study-equivalence-standard-seed-7/report.html"


def test_settings_of_a_study_are_changed_by_name(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def conduct(*_: Any, **how: Any) -> dict[str, Any]:
        seen.update(how)
        return SUMMARY

    monkeypatch.setattr(study, "conduct", conduct)
    words = ("n=9", "lrs=[0.1, 0.2]", "rough={name: mlp, widths: [4], activation: relu}", "data=digits")
    assert dsgd_command("study", "equivalence", *words)[0] == 0
    assert seen["words"] == list(words)
    assert seen["changes"]["n"] == 9
    assert seen["changes"]["lrs"] == (0.1, 0.2)
    assert repr(seen["changes"]["rough"]) == "Mlp(widths=(4,), activation='relu', norm='none', init='uniform')"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("m=9", r"m: unknown key; .*n"),
        ("n=nine", "n: 'nine'"),
        ("n", "'n': not an override"),
        ("seeds=0", "seeds: 0; it must be at least 1"),
        ("rough=gelu", "rough: 'gelu' is unknown"),
    ],
)
def test_a_change_that_is_none_is_refused(dsgd_command: Dsgd, word: str, message: str) -> None:
    status, out, err = dsgd_command("study", "equivalence", word)
    assert (status, out) == (2, "")
    assert re.search(message, err), err


def test_a_study_whose_run_failed_exits_1(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*_: Any, **__: Any) -> dict[str, Any]:
        raise study.StudyError("run 'ring' failed")

    monkeypatch.setattr(study, "conduct", conduct)
    assert dsgd_command("study", "equivalence")[::2] == (1, "failed: run 'ring' failed\n")
