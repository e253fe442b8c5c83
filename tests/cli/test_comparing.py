"""Runs beside each other: what differs is found, named and drawn, and what is no comparison is refused."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from dsgd import cli, measured
from dsgd.comparison import comparison
from dsgd.records import Record, read_record
from dsgd.results import read_history, to_json
from dsgd.statistics import mean_interval
from tests.cli.small import SMALL
from tests.conftest import Dsgd


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: another graph, another learning rate on it."""
    folder = tmp_path_factory.mktemp("compare")
    for name, words in {"a": [], "b": ["topology.graph=complete"], "c": ["learning_rate.lr=0.5", "steps=6"]}.items():
        assert cli.main(["run", *SMALL, *words, "--out", str(folder / name), "--json"]) == 0
    return folder


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_table_has_what_differs_and_the_main_metrics(dsgd_command: Dsgd, runs: Path) -> None:
    status, out, err = dsgd_command("compare", "a", "b")
    assert (status, err) == (0, "")
    lines = [re.split(r" {2,}", line) for line in out.splitlines()]
    assert lines[0] == ["setting", "graph=ring", "graph=complete"]
    assert lines[1:4] == [
        ["run", "a", "b"],
        ["ended", "ok, step 4", "ok, step 4"],
        ["topology.graph.name", "ring", "complete"],
    ]
    assert lines[4] == [""]
    assert re.fullmatch(r"\d+ settings are the same\.", out.splitlines()[5])
    last = [read_history(runs / name)[-1]["test_loss_mean_model"] for name in "ab"]
    assert ["test_loss_mean_model", *(f"{value:.5g}" for value in last)] in lines


def test_json_has_every_measurement(dsgd_command: Dsgd, runs: Path) -> None:
    status, out, _ = dsgd_command("compare", "a", "c", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["settings"] == {"learning_rate.lr": [0.1, 0.5], "steps": [4, 6]}
    assert [run["label"] for run in found["runs"]] == ["lr=0.1, steps=4", "lr=0.5, steps=6"]
    ends = [read_history(runs / name)[-1] for name in "ac"]
    assert {name: list(pair) for name, *pair in ((name, *(end[name] for end in ends)) for name in ends[0])} == {
        **found["metrics"],
        "step": [4, 6],
    }


def test_many_runs_are_a_line_each(dsgd_command: Dsgd, runs: Path) -> None:
    for name in "defg":
        shutil.copytree(runs / "a", runs / name)
    status, out, _ = dsgd_command("compare", *"abcdefg")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[:8]] == ["setting", *"abcdefg"][:1] + [
        line.split()[0] for line in out.splitlines()[1:8]
    ]
    assert out.splitlines()[0].split()[:2] == ["setting", "run"]


def test_the_page_overlays_the_curves_and_csv_equals_the_numbers(dsgd_command: Dsgd, runs: Path) -> None:
    status, out, _ = dsgd_command("compare", *"abc", "--out", "all.html", "--csv", "tables", "--svg", "figures")
    assert status == 0
    assert "all.html" in out
    page = Path("all.html").read_text(encoding="utf-8")
    (loss,) = re.findall(r'<figure data-name="Test loss, mean model">.*?</figure>', page, re.DOTALL)
    for label in ("graph=ring, lr=0.1", "graph=complete, lr=0.1", "graph=ring, lr=0.5"):
        assert label in loss
    with Path("tables/latest-values.csv").open(encoding="utf-8", newline="") as lines:
        rows = {name: values for name, *values in csv.reader(lines)}
    ends = [read_history(runs / name)[-1]["test_loss_mean_model"] for name in "abc"]
    assert [float(value) for value in rows["test_loss_mean_model"]] == ends
    assert (Path("figures") / "test-loss-mean-model.svg").is_file()


def record(name: str, config: dict[str, object]) -> Record:
    return Record(Path("runs") / name, config, [], [], {}, {}, running=False)


@pytest.mark.parametrize(
    ("configs", "labels"),
    [
        ([{"seed": 0}, {"seed": 1}], ["seed=0", "seed=1"]),
        ([{"seed": 0}, {"seed": 0}], ["x0", "x1"]),
        ([{"seed": 0, "name": "p"}, {"seed": 0, "name": "q"}], ["x0", "x1"]),
        ([{"a": 0, "b": 0, "c": 0, "d": 0}, {"a": 1, "b": 1, "c": 1, "d": 1}], ["x0", "x1"]),
        ([{"seed": 0}, {"seed": 1}, {"seed": 1}], ["seed=0", "seed=1 (x1)", "seed=1 (x2)"]),
        (
            [{"model": {"init": 1}, "task": {"init": 1}}, {"model": {"init": 2}, "task": {"init": 2}}],
            ["model.init=1, task.init=1", "model.init=2, task.init=2"],
        ),
        (
            [{"metrics": [{"name": "consensus", "every": 1}], "seed": 3}, {"metrics": [], "seed": 4}],
            ["seed=3", "seed=4"],
        ),
    ],
)
def test_runs_are_named_by_what_differs(configs: list[dict[str, object]], labels: list[str]) -> None:
    assert comparison([record(f"x{i}", config) for i, config in enumerate(configs)]).labels == labels


def test_parts_in_a_list_are_compared_by_their_names() -> None:
    configs = [{"metrics": [{"name": "a", "every": 1}]}, {"metrics": [{"name": "b"}, {"name": "a", "every": 2}]}]
    found = comparison([record(str(i), config) for i, config in enumerate(configs)])
    assert found.settings == {"metrics.a.every": [1, 2], "metrics.b.name": [None, "b"]}


def test_hostile_labels_are_text(dsgd_command: Dsgd, runs: Path) -> None:
    for name, odd in (("a", "<b>\u0001\x1b[31m$x_1$"), ("b", "_<script>alert(1)</script>")):
        text = (runs / name / "config.yaml").read_text()
        (kept,) = re.findall("name: (?:ring|complete)", text)
        (runs / name / "config.yaml").write_text(text.replace(kept, f"name: {to_json(odd)}"))
    status, out, _ = dsgd_command("compare", "a", "b", "--out", "all.html")
    assert status == 0
    assert "\x1b" not in out
    page = Path("all.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a"], "^RUN_DIR: one given; give the folders of two runs at least$"),
        (["a", "./a"], "^RUN_DIR: a is given twice; give each run once$"),
        (["a", "gone"], "^gone: no such folder; give the folder of a run$"),
        (["a", "."], r"^\. is not the folder of a run: it lacks config.yaml and metrics.jsonl$"),
        (["a", "b", "--out", "c.svg"], "^--out: c.svg does not end in .html; give a name that does$"),
        (["a", "b", "--csv", "c"], "^--csv: c is not empty: give a new or empty folder$"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    dsgd_command: Dsgd, runs: Path, arguments: list[str], expected: str
) -> None:
    before = sorted(runs.rglob("*"))
    status, out, err = dsgd_command("compare", *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(expected, err)
    assert sorted(runs.rglob("*")) == before


def test_runs_of_a_sweep_are_drawn_as_means_over_seeds(dsgd_command: Dsgd, runs: Path) -> None:
    words = ["topology.graph=ring,complete", "seed=0,1,2", "steps=4", "measure_every=2"]
    assert dsgd_command("run", *SMALL, *words, "--out", "sweep")[0] == 0
    assert dsgd_command("compare", "sweep", "--out", "sweep.html", "--json")[0] == 0
    page = (runs / "sweep.html").read_text().replace("\u00a0", " ")
    assert "6 runs compared" in page
    assert "Means over seeds, with their 95 % intervals." in page
    folders = sorted((runs / "sweep" / "runs").iterdir())
    records = [read_record(folder) for folder in folders]
    found = comparison(records)
    assert [*found.curves] == ["graph=complete (3 seeds)", "graph=ring (3 seeds)"]
    column = measured.columns(records[0].rows)[1]
    curve = measured.over_seeds([record.rows for record in records[:3]], column, "complete")
    expected = [mean_interval([record.rows[k][column.name] for record in records[:3]]) for k in range(3)]
    assert curve.x == [0.0, 2.0, 4.0]
    assert (curve.y, curve.lo, curve.hi) == tuple(
        zip(*((one.estimate, one.lo, one.hi) for one in expected), strict=True)
    )
    assert [*comparison(records[2:]).curves] == ["graph=complete, seed=2", "graph=ring (3 seeds)"]
    told = "sweep is the folder of a sweep; take dsgd compare sweep --out FILE.html, or one of its runs\n"
    assert dsgd_command("report", "sweep") == (2, "", told)
