"""The settings of a study are changed in words by their types, and what no word can change is refused in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from dsgd.config import ConfigError, changes
from dsgd.learning_rates import Constant, Multistep

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd

NOT_IN_WORDS = (
    "allowed are numbers, strings, parts, and lists of one kind of these; change this setting in the study's file"
)


@dataclass(frozen=True)
class Training:
    lr: float = 0.1


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study of every kind that there is."""

    seeds: int = 1
    seed: int = 0
    rate: Constant | Multistep = field(default_factory=Constant)
    rates: tuple[Constant | Multistep, ...] = ()
    trainings: tuple[Training, ...] = (Training(),)
    pairs: tuple[tuple[str, int], ...] = ()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("rate=multistep", {"rate": Multistep()}),
        ("rate={milestones: [0.5]}", ConfigError("rate.milestones: unknown key; allowed are lr")),
        ("rate={name: multistep, milestones: [0.5]}", {"rate": Multistep(milestones=(0.5,))}),
        ("rate=cosine", ConfigError("rate: 'cosine' is unknown; allowed are constant, multistep")),
        ("rates=[constant, {name: constant, lr: 0.3}]", {"rates": (Constant(), Constant(0.3))}),
        ("rates=[constant, cosine]", ConfigError("rates[1]: 'cosine' is unknown; allowed are constant, multistep")),
        ("trainings=[{lr: 0.3}]", ConfigError(f"trainings: [{{'lr': 0.3}}] given; {NOT_IN_WORDS}")),
        ("pairs=[[ring, 4]]", ConfigError(f"pairs: [['ring', 4]] given; {NOT_IN_WORDS}")),
    ],
)
def test_a_setting_of_a_study_is_read_by_its_type(word: str, expected: Any) -> None:
    if isinstance(expected, ConfigError):
        with pytest.raises(ConfigError) as error:
            changes(StudySettings(), [word])
        assert error.value.problems == expected.problems
    else:
        assert changes(StudySettings(), [word]) == expected


def test_a_setting_that_no_word_can_change_is_refused_in_one(dsgd_command: Dsgd, tmp_path: Path) -> None:
    study = """
from dataclasses import dataclass
question = "Is it?"
@dataclass(frozen=True)
class Training:
    lr: float = 0.1
@dataclass(frozen=True)
class Settings:
    seeds: int = 1
    seed: int = 0
    trainings: tuple[Training, ...] = (Training(),)
presets = {"smoke": Settings()}
def runs(settings): return {}
def report(settings, histories): return None
"""
    (tmp_path / "mine.py").write_text(study)
    status, out, err = dsgd_command("study", "mine.py", "trainings=[{lr: 0.3}]", "--out", "here")
    assert (status, out, err) == (2, "", f"trainings: [{{'lr': 0.3}}] given; {NOT_IN_WORDS}\n")
    assert not (tmp_path / "here").exists()
