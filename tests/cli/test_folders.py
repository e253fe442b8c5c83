"""`dsgd runs` lists what lies in a folder, and `dsgd show` shows one again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dsgd.cli import shown_folders
from dsgd.locks import locked
from dsgd.yaml_values import to_text

if TYPE_CHECKING:
    from tests.conftest import Dsgd
from tests.cli.small import SMALL


@pytest.fixture
def trained(dsgd_command: Dsgd) -> Dsgd:
    """A finished run, one that diverged, one cut short, and a sweep."""
    assert dsgd_command("run", *SMALL, "--out", "runs/good")[0] == 0
    assert dsgd_command("run", *SMALL, "learning_rate.lr=1e38", "--out", "runs/deep/bad")[0] == 1
    assert dsgd_command("run", *SMALL, "seed=0,1", "--out", "runs/both")[0] == 0
    cut = Path("runs/cut")
    cut.mkdir()
    (cut / "config.yaml").write_text(Path("runs/good/config.yaml").read_text())
    rows = Path("runs/good/metrics.jsonl").read_text().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(rows[:2]) + rows[2][:10])
    return dsgd_command


def listed(command: Dsgd, *where: str) -> dict[str, dict[str, Any]]:
    status, out, err = command("runs", *where, "--json")
    assert (status, err) == (0, "")
    return {one["folder"]: one for one in json.loads(out)}


def test_runs_are_listed_with_how_they_stand(trained: Dsgd) -> None:
    found = listed(trained)
    standing = {name: (one["kind"], one["status"]) for name, one in found.items()}
    assert standing == {
        "runs/good": ("run", "ok"),
        "runs/deep/bad": ("run", "diverged"),
        "runs/both": ("sweep", "ok"),
        "runs/cut": ("run", "unfinished"),
    }
    assert (found["runs/good"]["steps"], found["runs/cut"]["steps"], found["runs/cut"]["of_steps"]) == (4, 2, 4)
    assert found["runs/good"]["metrics"]["step"] == 4
    assert found["runs/both"]["runs"] == 2
    assert found["runs/cut"]["next"] == ["dsgd resume runs/cut"]
    lines = trained("runs")[1].splitlines()
    assert re.split("  +", lines[0])[3:] == ["test accuracy", "train loss", "consensus distance", "age"]
    assert re.search(r"^cut +unfinished +2 of 4 ", "\n".join(lines), re.M)
    inside = listed(trained, "runs/both")
    assert [Path(name).name[:6] for name in inside] == ["seed-0", "seed-1"]


def test_one_that_is_being_trained_is_running(trained: Dsgd) -> None:
    with locked(Path("runs/cut")), locked(Path("runs/both")):
        found = listed(trained)
    assert found["runs/cut"]["status"] == "running"
    assert found["runs/cut"]["next"] == []
    assert found["runs/good"]["status"] == "ok"


def test_a_damaged_folder_hides_no_other(trained: Dsgd) -> None:
    Path("runs/good/summary.json").write_text('{"status": ')
    Path("runs/both/sweep.json").write_text("[]")
    found = listed(trained)
    assert {name for name, one in found.items() if one["status"] == "damaged"} == {"runs/good", "runs/both"}
    status, out, _ = trained("show", "runs/good")
    assert (status, "not JSON" in out) == (0, True)


def test_a_run_is_shown_again(trained: Dsgd) -> None:
    status, out, err = trained("show", "runs/good")
    assert (status, err) == (0, "")
    assert re.search(r"^model +mlp widths=\[4\] ", out, re.M)
    assert re.search(r"^test_accuracy_mean_model +0\.\d+$", out, re.M)
    assert out.endswith("  dsgd probe runs/good\n  dsgd landscape runs/good --out landscape.svg\n")
    found = json.loads(trained("show", "runs/good", "--json")[1])
    assert found["metrics"] == json.loads(Path("runs/good/metrics.jsonl").read_text().splitlines()[-1])
    assert found["config"]["topology"]["n"] == 4
    status, out, _ = trained("show", "runs/cut")
    assert (status, out.splitlines()[-1]) == (0, "  dsgd resume runs/cut")
    status, out, _ = trained("show", "runs/deep/bad")
    assert re.search(r"^error +Diverged: .*lower learning_rate.lr$", out, re.M)


def test_a_sweep_and_its_runs_are_shown_again(trained: Dsgd) -> None:
    told = trained("run", *SMALL, "seed=0,1", "--out", "runs/both")[1]
    status, out, _ = trained("show", "runs/both")
    assert (status, out.startswith(told)) == (0, True)
    assert out.splitlines()[-1].endswith("seed=0,1 --out runs/both")
    first = next(Path("runs/both/runs").iterdir())
    (first / "summary.json").unlink()
    assert trained("show", str(first))[1].splitlines()[-1].endswith("seed=0,1 --out runs/both")


def test_a_study_is_shown_again(dsgd_command: Dsgd) -> None:
    folder = Path("runs/study")
    folder.mkdir(parents=True)
    (folder / "study.json").write_text('{"study": "sums"}')
    status, out, _ = dsgd_command("show", "runs/study")
    assert (status, "unfinished" in out, out.splitlines()[-1]) == (0, True, "  dsgd study sums --out runs/study")
    claim = {"name": "it adds", "kind": "claim", "estimate": 2.0, "ci": [1.5, 2.5], "verdict": "supported"}
    summary = {"study": "sums", "claims": [claim], "runs": 3, "command": "dsgd study sums --preset smoke"}
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = dsgd_command("show", "runs/study")[1].splitlines()
    assert lines[0] == "supported  claim  it adds  2.00  [1.50, 2.50]"
    assert lines[-1] == "  dsgd study sums --preset smoke"
    assert listed(dsgd_command)["runs/study"]["runs"] == 3


def test_nothing_there_is_said(dsgd_command: Dsgd, tmp_path: Path) -> None:
    assert dsgd_command("runs")[::2] == (
        2,
        "runs: no such folder; give one that holds runs (dsgd run writes into runs/)\n",
    )
    assert dsgd_command("runs", ".") == (0, "no runs in .\n", "")
    assert dsgd_command("show", ".")[::2] == (
        2,
        ". holds no run, sweep or study; dsgd runs lists those that are there\n",
    )
    assert dsgd_command("show", "gone")[::2] == (2, "gone: no such folder; dsgd runs lists those that are there\n")


def test_what_a_terminal_would_obey_is_spelled_out(trained: Dsgd) -> None:
    rows = Path("runs/good/metrics.jsonl").read_text().splitlines()
    Path("runs/good/metrics.jsonl").write_text("\n".join([*rows[:-1], '{"step": 4, "\\u001b[2Jx": "\\u001b]0;"}\n']))
    out = trained("show", "runs/good")[1]
    assert "\x1b" not in out
    assert "\\x1b[2Jx" in out


def test_names_in_a_folder_that_anybody_wrote_stay_words_of_the_commands_to_copy(trained: Dsgd) -> None:
    name, study = "it's; touch hit.py", Path("runs/study")
    config = Path("runs/cut/config.yaml")
    config.write_text(config.read_text() + to_text({"plugins": [{"file": name, "sha256": "0" * 64}]}))
    study.mkdir()
    (study / "study.json").write_text(json.dumps({"study": name}))
    found = listed(trained)
    assert [shlex.split(one) for one in found["runs/cut"]["next"]] == [["dsgd", "resume", "runs/cut", "--plugin", name]]
    assert [shlex.split(one) for one in found["runs/study"]["next"]] == [["dsgd", "study", name, "--out", "runs/study"]]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (3700, "1 h"), (1e6, "11 d")])
def test_an_age_is_a_number_and_a_unit(seconds: float, words: str) -> None:
    assert shown_folders.age(seconds) == words
