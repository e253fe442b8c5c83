"""Processes, workers and actors know the user's own files: the numbers are those of one process."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dsgd import kept_runs
from dsgd.backends.local import LocalBackend
from dsgd.results import read_history
from dsgd.study import conduct, find_study
from tests.cli.small import SMALL
from tests.conftest import Dsgd
from tests.rows import near
from tests.test_plugins import SIGN, WHEEL

pytestmark = pytest.mark.usefixtures("own_parts")

STUDY = (
    SIGN.replace('@dsgd.register("gradient", "sign")\n', "")
    + """
from dsgd.run import Run
from dsgd.study import Report

question = "Does it travel?"

@dataclass(frozen=True)
class Settings:
    seeds: int = 2
    seed: int = 0

presets = {"smoke": Settings()}

def runs(settings):
    return {f"{seed}": Run(gradient=Sign(), batch_size=4, steps=2, seed=seed) for seed in range(settings.seeds)}

def report(settings, histories):
    return Report([])
"""
)
ONLY_HERE = "import multiprocessing\nif multiprocessing.parent_process(): raise OSError('not here')\n"


@pytest.fixture
def own_files(tmp_path: Path) -> Path:
    (tmp_path / "sign.py").write_text(SIGN)
    (tmp_path / "wheel.py").write_text(WHEEL)
    (tmp_path / "study.py").write_text(STUDY)
    return tmp_path


OWN = [*SMALL, "gradient=sign", "topology.graph=wheel", "dtype=float64", "--plugin", "sign.py", "--plugin", "wheel.py"]


@pytest.mark.usefixtures("own_files")
def test_processes_know_the_plug_ins_by_their_bytes(dsgd_command: Dsgd) -> None:
    for backend in ("local", "processes"):
        words = ["backend.actors=2"] if backend == "processes" else []
        assert dsgd_command("run", *OWN, f"backend={backend}", *words, "--out", backend)[0] == 0
    here, there = read_history("local"), read_history("processes")
    for row, other in zip(here, there, strict=True):
        assert row == near(other, rel=1e-10)


def test_a_plug_in_that_cannot_be_run_there_is_said_in_a_sentence(dsgd_command: Dsgd, tmp_path: Path) -> None:
    assert multiprocessing.parent_process() is None
    (tmp_path / "here.py").write_text(ONLY_HERE)
    words = ["backend=processes", "backend.actors=2", "--plugin", "here.py", "--out", "a"]
    status, _, err = dsgd_command("run", *SMALL, *words)
    said = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert (status, len(said)) == (1, 1)
    assert said[0].endswith("failed: ValueError: here.py cannot be loaded: OSError: not here (line 2)")


def test_the_workers_of_a_study_know_the_parts_in_its_file(
    own_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_runs, "RUNS_A_WORKER", 1)
    study = find_study(str(own_files / "study.py"))
    summary = conduct(study, out=tmp_path / "out", backend=LocalBackend("cpu"), workers=2)
    assert (summary["runs"], summary["trained"]) == (2, 2)
    (own_files / "study.py").write_text(STUDY.replace("0.01", "0.02"))
    again = conduct(find_study(str(own_files / "study.py")), out=tmp_path / "out", backend=LocalBackend("cpu"))
    assert again["trained"] == 2
