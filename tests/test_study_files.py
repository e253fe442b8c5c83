"""Where studies are found, and what is told of those that are none."""

from __future__ import annotations

import sys

import pytest

from dsgd.study import conduct, find_study, list_studies, study_costs

SOURCE = '''"""Does it work?

Claim: yes.
"""
from dataclasses import dataclass
question = "Does it?"
@dataclass(frozen=True)
class Settings:
    seeds: int = 2
    seed: int = 0
presets = {"smoke": Settings()}
def runs(settings): return {}
def report(settings, histories):
    from dsgd.study import Report
    return Report([])
'''


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of dsgd's own studies with one study, and one that raises when it is imported."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "works.py").write_text(SOURCE)
    (folder / "breaks.py").write_text('"""Breaks."""\nraise RuntimeError("imported")\n')
    (folder / "_private.py").write_text("")
    monkeypatch.setattr("dsgd.study_files.shipped_folder", lambda name: folder)
    yield folder
    for name in [name for name in sys.modules if name.startswith("dsgd_experiments.")]:
        del sys.modules[name]


def test_studies_are_listed_with_their_first_line_and_not_imported(home):
    assert list_studies() == {"breaks": "Breaks.", "works": "Does it work?"}


def test_a_study_is_found_by_name_and_loaded_under_a_name_of_our_own(home):
    study = find_study("works")
    assert study.__name__ == "dsgd_experiments.works"
    assert sys.modules["dsgd_experiments.works"] is study
    assert study.presets["smoke"].seeds == 2


def test_only_a_path_reaches_a_study_in_the_current_folder(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    for place in (tmp_path / "mine.py", tmp_path / "experiments" / "mine.py"):
        place.write_text(SOURCE)
    with pytest.raises(ValueError, match=r"there is no study 'mine'; allowed are breaks, works, or a \.py file"):
        find_study("mine")
    summary = conduct(find_study("./mine.py"), out=tmp_path / "out")
    assert summary["command"] == "dsgd study mine.py --preset smoke --seed 0"
    assert summary["claims"] == []


def test_a_named_study_is_repeated_by_its_name(home, tmp_path):
    assert conduct("works", out=tmp_path / "out")["command"] == "dsgd study works --preset smoke --seed 0"


def test_what_is_not_a_study_is_told_what_it_lacks(home, tmp_path):
    (tmp_path / "half.py").write_text("question = 'x'\npresets = {}\n")
    with pytest.raises(ValueError, match=r"half\.py is not a study: it lacks runs, report$"):
        find_study(str(tmp_path / "half.py"))
    with pytest.raises(ValueError, match=r"there is no study file nowhere\.py"):
        find_study("nowhere.py")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", r"mine\.py cannot be loaded: SyntaxError: .*\(mine\.py, line 1\)"),
        ("import gone", r"mine\.py cannot be loaded: ModuleNotFoundError: No module named 'gone'"),
        ("1 / 0", r"mine\.py cannot be loaded: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_loaded_is_told_why(home, tmp_path, source, message):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ValueError, match=message):
        find_study(str(tmp_path / "mine.py"))
    assert "dsgd_experiments.mine" not in sys.modules


def test_studies_say_what_they_cost(home):
    (home / "costly.py").write_text(
        '"""Costly.\n\nTakes   smoke 8 seconds,\n        paper a day.\nExpect  Nothing.\n"""\n'
    )
    assert study_costs() == {"breaks": "", "costly": "smoke 8 seconds, paper a day.", "works": ""}
