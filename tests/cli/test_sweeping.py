"""`dsgd run` with several values for a knob trains every combination, once, and tells means over seeds."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dsgd import results
from dsgd.cli import sweep_tables
from dsgd.statistics import mean_interval

if TYPE_CHECKING:
    from tests.conftest import Dsgd
from tests.cli.small import SMALL
from tests.rows import near

SWEPT = [*SMALL, "topology.n=4,6", "seed=0,1,2"]


def finals(folder: str) -> dict[str, dict[str, Any]]:
    """The last row of each run in a folder, by its folder's name."""
    return {path.name: results.read_history(path)[-1] for path in sorted(Path(folder, "runs").iterdir())}


def test_a_sweep_trains_the_product_and_tells_means_over_seeds(dsgd_command: Dsgd) -> None:
    words = [word for word in SWEPT if word != "topology.n=4"]
    status, out, err = dsgd_command("run", *words, "--out", "here", "--json")
    found = json.loads(out)
    assert (status, found["finished"], found["trained"], len(found["runs"])) == (0, True, 6, 6)
    assert found["swept"] == {"topology.n": [4, 6], "seed": [0, 1, 2]}
    assert "run 6/6" in err
    assert found == json.loads(Path("here/sweep.json").read_text())
    names = [name.rpartition("-")[0] for name in finals("here")]
    assert names == [f"n-{n}_seed-{seed}" for n in (4, 6) for seed in (0, 1, 2)]
    for row, (n, own) in zip(found["table"], ((4, "n-4_"), (6, "n-6_")), strict=True):
        values = [last["consensus_distance"] for name, last in finals("here").items() if name.startswith(own)]
        expected = mean_interval(values)
        assert (row["values"], row["runs"], row["ok"]) == ({"topology.n": n}, 3, 3)
        told = row["metrics"]["consensus_distance"]
        assert [told["mean"], told["lo"], told["hi"]] == pytest.approx([expected.estimate, expected.lo, expected.hi])


def test_a_sweeps_run_has_the_numbers_that_it_has_alone(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "learning_rate.lr=0.1,0.2", "--out", "both")[0] == 0
    assert dsgd_command("run", *SMALL, "learning_rate.lr=0.2", "--out", "alone")[0] == 0
    alone = results.read_history("alone")[-1]
    (name,) = (name for name in finals("both") if name.startswith("lr-0.2"))
    assert finals("both")[name] == near(alone, rel=1e-5)


def test_what_is_finished_is_reused_also_by_a_larger_sweep(dsgd_command: Dsgd) -> None:
    first = dsgd_command("run", *SMALL, "seed=0,1")[1]
    (folder,) = Path("runs").iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/summary.json")}
    status, out, _ = dsgd_command("run", *SMALL, "seed=1,0,2", "--json")
    assert (status, json.loads(out)["trained"], json.loads(out)["folder"]) == (0, 1, str(folder))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.glob("runs/*"))) == 3
    status, out, err = dsgd_command("run", *SMALL, "seed=0,1")
    assert (status, out, err) == (0, first, "run 2/2\n")


def test_a_run_that_diverges_stops_no_other_and_is_told(dsgd_command: Dsgd) -> None:
    words = [*SMALL, "learning_rate.lr=0.1,1e38", "seed=0,1"]
    status, out, err = dsgd_command("run", *words, "--out", "here")
    assert status == 1
    assert err.splitlines()[-1].startswith("failed: 2 of 4 runs, first learning_rate.lr=1e38 seed=0: Diverged: ")
    rows = [line.split() for line in out.splitlines()]
    assert [row[:4] for row in rows if row[:1] == ["1e+38"]] == [["1e+38", "0", "of", "2"]]
    assert [row[1] for row in rows if row[:1] == ["0.1"]] == ["2"]
    assert [" ".join(row[2:4]) for row in rows if row[:1] == ["learning_rate.lr=1e38"]] == ["diverged after"] * 2
    status, _, err = dsgd_command("run", *words, "--out", "here")
    assert (status, "run 4/4" in err) == (1, True)


def test_the_csv_files_hold_the_runs_and_the_table(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "learning_rate=cosine,constant", "--out", "here")[0] == 0
    runs, table = (list(csv.DictReader(io.StringIO(Path("here", f"{n}.csv").read_text()))) for n in ("runs", "table"))
    assert [row["learning_rate"] for row in runs] == [row["learning_rate"] for row in table] == ["cosine", "constant"]
    assert [row["status"] for row in runs] == ["ok", "ok"]
    for row, mean in zip(runs, table, strict=True):
        assert float(row["train_loss_mean_model"]) == float(mean["train_loss_mean_model"]) > 0
        assert mean["train_loss_mean_model_lo"] == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["topology.n=0,4,8"], "topology.n: .*n = 0.* (at topology.n=0)"),
        (["topology.n=4,8", "topology={graph: ring, n: 16}"], "topology.n=4 and topology.n=8 are the same run"),
        (["model.widths=64,32"], "model.widths: 64 given; allowed is a list of whole numbers (at model.widths=64)"),
        (["seed=0,1", "backend.actors=2"], "backend.actors: unknown key"),
        (["topology.n=4,1000000", "model.widths=[10000]"], "the run needs about"),
    ],
)
def test_what_cannot_be_swept_is_refused_and_leaves_nothing(
    dsgd_command: Dsgd, tmp_path: Path, words: list[str], sentence: str
) -> None:
    given = [word for word in SMALL if word.partition("=")[0] not in {w.partition("=")[0] for w in words}]
    status, out, err = dsgd_command("run", *given, *words, "--out", "here")
    assert (status, out, list(tmp_path.iterdir())) == (2, "", [])
    start, _, end = sentence.partition(".*")
    assert any(start in line and end.split(".*")[-1] in line for line in err.splitlines()), err


def test_a_folder_that_is_no_sweeps_is_refused(dsgd_command: Dsgd, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    status, _, err = dsgd_command("run", *SMALL, "seed=0,1", "--out", "mine")
    assert (status, err) == (2, "--out: mine is not empty: give a new or empty folder, or the one of a sweep\n")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_a_dry_run_of_a_sweep_names_its_runs_and_writes_nothing(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "seed=0,1", "--dry-run")
    assert (status, list(tmp_path.iterdir())) == (0, [])
    assert [line.split()[:2] for line in out.splitlines()] == [["seed=0", "missing"], ["seed=1", "missing"]]
    assert "2 runs, 2 to be trained" in err
    assert "parameters" in err


@pytest.mark.slow
def test_workers_train_side_by_side(dsgd_command: Dsgd) -> None:
    words = [*SMALL, "model.widths=[4],[5]", "seed=0,1"]
    words.remove("model.widths=[4]")
    status, out, _ = dsgd_command("run", *words, "--workers", "2", "--out", "here", "--json")
    assert (status, [run["status"] for run in json.loads(out)["runs"]]) == (0, ["ok"] * 4)


def test_an_interrupted_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    words = [*SMALL, "steps=1000000", "learning_rate.lr=0.1,0.2", "--out", "here"]
    command = [sys.executable, "-m", "dsgd.cli", "run", *words]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    begun = time.monotonic()
    while not [path for path in tmp_path.glob("here/runs/*/metrics.jsonl") if path.stat().st_size]:
        assert time.monotonic() - begun < 100
        time.sleep(0.1)
    os.kill(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    last = err.splitlines()[-1]
    assert last.startswith("interrupted; to go on with the runs that are missing: dsgd run task=digits ")
    assert last.endswith("steps=1000000 learning_rate.lr=0.1,0.2 --out here")
    assert "Traceback" not in err
    assert json.loads((tmp_path / "here/sweep.json").read_text())["finished"] is False


def test_a_table_is_of_the_runs_that_ended_well() -> None:
    def row(seed: int, status: str, **metrics: Any) -> dict[str, Any]:
        return {"label": f"seed={seed}", "values": {"seed": seed}, "folder": "a", "status": status, "metrics": metrics}

    rows = [row(0, "ok", loss=1.0, kind="x"), row(1, "ok", loss=3.0, gap=None), row(2, "diverged", loss=99.0)]
    (found,) = sweep_tables.table_of(rows)
    assert (found["runs"], found["ok"], list(found["metrics"])) == (3, 2, ["loss"])
    assert found["metrics"]["loss"]["mean"] == 2.0
    assert found["metrics"]["loss"]["n"] == 2
