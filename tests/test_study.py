"""A study trains what is missing and nothing else, survives interruption, and never touches a folder of others."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from dsgd.figures import standalone
from dsgd.study import Claim, Figure, Report, StudyError, conduct


@dataclass(frozen=True)
class Settings:
    seeds: int = 3
    seed: int = 0


@dataclass(frozen=True)
class FakeRun:
    graph: str
    seed: int
    steps: int = 10

    def describe(self):
        return {"graph": self.graph, "seed": self.seed}


class Trainer:
    """Counts the runs it trains; `fails` maps a seed to what is raised for it."""

    def __init__(self, fails=()):
        self.trained, self.fails = [], dict(fails)

    def train(self, run, observers=()):
        self.trained.append(run)
        for observer in observers:
            observer.measured({"step": 0, "value": run.seed % 2, "missing": math.nan})
        if run.seed in self.fails:
            raise self.fails[run.seed]
        return SimpleNamespace(params={"w": torch.ones(4, 3)}, data_sha256="0" * 64)


def a_study(low=-10.0, high=10.0):
    """Its claim's values are 0, 1, 0, 1, ... by seed."""

    def report(settings, histories):
        values = tuple(rows[-1]["value"] for rows in histories.values())
        return Report([Claim("<b>mean</b>", "claim", values, low, high, "in bounds")])

    def runs(settings):
        return {f"ring, seed {s}": FakeRun("ring", s) for s in range(settings.seed, settings.seed + settings.seeds)}

    presets = {"smoke": Settings(2), "standard": Settings()}
    return SimpleNamespace(__name__="fake", question="Is it?", presets=presets, runs=runs, report=report)


@pytest.fixture
def run_study(tmp_path):
    def run(study=None, train=None, out=tmp_path / "out", **how):
        return conduct(study or a_study(), out=out, backend=train or Trainer(), key=key, **how)

    return run


def key(run):
    return f"{run.graph}-{run.seed:04d}-{'0' * 40}"


def test_the_summary_is_the_contract_and_lies_in_the_folder(run_study, tmp_path):
    summary = run_study(seed=7)
    promised = {"study", "preset", "claims", "command", "seed", "versions", "git", "seconds"}
    assert promised <= summary.keys()
    assert (summary["study"], summary["preset"], summary["seed"]) == ("fake", "standard", 7)
    assert summary["command"] == "dsgd study fake --preset standard --seed 7"
    (claim,) = summary["claims"]
    assert {"name", "kind", "estimate", "ci", "criterion", "verdict"} <= claim.keys()
    assert claim["verdict"] == "supported"
    assert claim["estimate"] == pytest.approx(2 / 3)
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert "&lt;b&gt;mean&lt;/b&gt;" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "report.md").read_text().startswith("# fake")
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text()


def test_no_absolute_path_is_in_the_command(run_study):
    words = ("data.folder=/home/me/data", "rough={weights: /abs/w.pt, widths: [4]}", "graph=a/b.edgelist", "ratio=1/16")
    expected = ("data.folder=data", "'rough={weights: w.pt, widths: [4]}'", "graph=a/b.edgelist", "ratio=1/16")
    assert run_study(words=words)["command"].partition("--seed 0 ")[2] == " ".join(expected)


def test_a_second_call_trains_nothing_and_says_the_same(run_study):
    first, trainer = run_study(), Trainer()
    second = run_study(train=trainer)
    assert trainer.trained == []
    assert (first["trained"], second["trained"]) == (3, 0)
    assert {**first, "seconds": 0, "trained": 0} == {**second, "seconds": 0}


def test_an_interrupted_study_continues_without_repeating(run_study, tmp_path):
    interrupted = Trainer({1: KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run_study(train=interrupted)
    assert [run.seed for run in interrupted.trained] == [0, 1]
    assert not (tmp_path / "out" / "summary.json").exists()

    continued = Trainer()
    summary = run_study(train=continued)
    assert [run.seed for run in continued.trained] == [1, 2]
    assert summary["trained"] == 2
    assert summary == {**run_study(), "seconds": summary["seconds"], "trained": 2}


@pytest.mark.parametrize("damage", ["summary.json", "metrics.jsonl"])
def test_a_damaged_run_is_trained_again(run_study, tmp_path, damage):
    run_study()
    (tmp_path / "out" / "runs" / key(FakeRun("ring", 1))[:20] / damage).write_text("{broken\n")
    trainer = Trainer()
    run_study(train=trainer)
    assert [run.seed for run in trainer.trained] == [1]


def test_a_failed_run_ends_the_study_after_the_others_and_is_tried_again(run_study, tmp_path):
    failing = Trainer({0: FloatingPointError("replica 3 is not finite")})
    with pytest.raises(StudyError, match=r"^run 'ring, seed 0': FloatingPointError: replica 3 is not finite$"):
        run_study(train=failing)
    assert [run.seed for run in failing.trained] == [0, 1, 2]
    kept = tmp_path / "out" / "runs" / key(FakeRun("ring", 0))[:20] / "summary.json"
    assert json.loads(kept.read_text())["status"] == "failed"

    again = Trainer()
    run_study(train=again)
    assert [run.seed for run in again.trained] == [0]


def test_of_several_failed_runs_the_first_is_named(run_study):
    failing = Trainer({0: ValueError("a"), 2: ValueError("c")})
    with pytest.raises(StudyError, match=r"^2 of 3 runs failed, first 'ring, seed 0': ValueError: a$"):
        run_study(train=failing)


def test_inconclusive_doubles_the_seeds_once(run_study):
    trainer = Trainer()
    told = []
    summary = run_study(a_study(low=0.45, high=0.55), train=trainer, tell=told.append)
    assert summary["claims"][0]["verdict"] == "inconclusive"
    assert told == ["inconclusive: <b>mean</b>; the seeds are doubled, once"]
    assert summary["looks"] == 2
    assert [run.seed for run in trainer.trained] == [0, 1, 2, 3, 4, 5]
    assert (summary["seeds"], summary["claims"][0]["n"], summary["runs"], summary["trained"]) == (6, 6, 6, 6)
    again = Trainer()
    run_study(a_study(low=0.45, high=0.55), train=again)
    assert again.trained == []


def test_the_page_says_what_the_symbols_mean(run_study, tmp_path):
    study = a_study()
    report = study.report
    study.report = lambda *given: replace(report(*given), definitions={"Xi": "covariance of the replicas"})
    run_study(study)
    assert "<dt>Ξ</dt><dd>covariance of the replicas</dd>" in (tmp_path / "out" / "report.html").read_text()
    assert "- **Ξ**: covariance of the replicas" in (tmp_path / "out" / "report.md").read_text()


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M 0 0"/></svg>'


def with_figures(*titles, svg=SVG, **bounds):
    study = a_study(**bounds)
    report = study.report
    study.report = lambda *given: replace(report(*given), figures=[Figure(title, svg, "Seen.") for title in titles])
    return study


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "runs" not in path.parts}


def test_figures_are_files_beside_the_report(run_study, tmp_path):
    run_study(with_figures("Loss", "Spread & more"))
    report = {"report.html", "report.md", "summary.json", "study.json"}
    assert report | {"figures/loss.svg", "figures/spread-more.svg"} <= files(tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "loss.svg").read_text() == standalone(Figure("Loss", SVG, "Seen."))
    text = (tmp_path / "out" / "report.md").read_text()
    linked = re.findall(r"!\[[^]]*\]\(([^)]*)\)", text)
    assert set(linked) == {name for name in files(tmp_path / "out") if name.endswith(".svg")}


def test_figures_of_an_earlier_look_are_removed_and_others_files_are_left(run_study, tmp_path):
    figures = tmp_path / "out" / "figures"
    run_study(with_figures("Loss", "Spread"))
    (figures / "notes.txt").write_text("mine")
    (figures / ".loss.svg.tmp-999999999").write_text("<svg")
    run_study(with_figures("Loss"))
    assert {path.name for path in figures.iterdir()} == {"loss.svg", "notes.txt"}
    (figures / "notes.txt").unlink()
    run_study()
    assert not figures.exists()
    assert "figures/" not in (tmp_path / "out" / "report.md").read_text()


def test_a_figure_that_does_more_than_draw_leaves_the_report_as_it_was(run_study, tmp_path):
    run_study(with_figures("Loss"))
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    with pytest.raises(
        StudyError, match=r"the report of fake cannot be made: ValueError: a figure's SVG holds <script>"
    ):
        run_study(with_figures("New", svg="<svg><script>alert(1)</script></svg>"))
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")} == before


def test_a_verdict_reached_doubles_nothing(run_study):
    trainer = Trainer()
    summary = run_study(a_study(low=50.0, high=None), train=trainer)
    assert (summary["claims"][0]["verdict"], summary["seeds"], len(trainer.trained)) == ("refuted", 3, 3)


def test_equal_runs_are_trained_once(run_study):
    study = a_study()
    study.runs = lambda settings: {"one": FakeRun("ring", 0), "same": FakeRun("ring", 0), "other": FakeRun("ring", 1)}
    trainer = Trainer()
    assert run_study(study, train=trainer)["runs"] == 2
    assert len(trainer.trained) == 2


def test_progress_tells_what_is_done_what_comes_and_how_long_it_takes(run_study):
    told = []
    with pytest.raises(KeyboardInterrupt):
        run_study(train=Trainer({1: KeyboardInterrupt()}))
    run_study(progress=lambda *what: told.append(what))
    assert [what[:3] for what in told] == [(1, 3, "ring, seed 1"), (2, 3, "ring, seed 1"), (3, 3, "ring, seed 2")]
    assert told[0][3] is None
    assert told[1][3] > 0
    assert told[2][3] == 0


def test_observers_follow_every_run(run_study):
    rows = []
    run_study(observers=(SimpleNamespace(measured=rows.append),))
    assert [row["value"] for row in rows] == [0, 1, 0]


def test_a_folder_of_others_is_refused_and_left_as_it_was(run_study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("keep")
    trainer = Trainer()
    with pytest.raises(FileExistsError, match=r"is not empty: give a new or empty folder"):
        run_study(train=trainer)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert trainer.trained == []


def test_the_folder_of_another_study_is_refused(run_study):
    run_study()
    other = a_study()
    other.__name__ = "other"
    with pytest.raises(FileExistsError, match="is not empty"):
        run_study(other)


def test_nothing_is_made_when_the_data_is_missing(tmp_path):
    def missing(run):
        raise FileNotFoundError("Fashion-MNIST is not there: make data")

    with pytest.raises(FileNotFoundError, match="make data"):
        conduct(a_study(), out=tmp_path / "out", backend=Trainer(), key=missing)
    assert not (tmp_path / "out").exists()


def test_the_default_folder_names_study_and_preset(run_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_study(out=None, preset="smoke")
    assert (tmp_path / "runs" / "study-fake-smoke" / "report.html").is_file()
    run_study(out=None, preset="smoke", seed=7)
    run_study(out=None, preset="smoke", seed=0)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"study-fake-smoke", "study-fake-smoke-seed-7"}


def test_changed_settings_have_a_default_folder_of_their_own(run_study, tmp_path, monkeypatch):
    """So that they do not take the place of the preset's own report."""
    monkeypatch.chdir(tmp_path)
    run_study(out=None)
    run_study(out=None, changes={"seeds": 2}, words=["seeds=2"])
    run_study(out=None, changes={"seeds": 4}, words=["seeds=4"])
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders[0] == "study-fake-standard"
    assert len(folders) == 3
    assert all(re.fullmatch(r"study-fake-standard-changed-[0-9a-f]{8}", name) for name in folders[1:])


def test_workers_end_with_the_process_that_started_them(tmp_path):
    """Also when it is killed and can tell nobody."""
    program = """
import os, signal, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from dsgd.kept_runs import _begin_worker
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), _begin_worker, (1,))
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    (tmp_path / "parent.py").write_text(program)
    told = subprocess.run([sys.executable, "parent.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    worker, deadline = int(told.stdout), time.monotonic() + 20
    while _lives(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)


def _lives(pid):
    """Whether the process is there and not merely waiting to be buried."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_unknown_preset_is_refused_with_the_known_ones(run_study):
    with pytest.raises(ValueError, match=r"study fake has no preset 'huge'; allowed are smoke, standard"):
        run_study(preset="huge")


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        ({}, "study fake has no presets; give at least one"),
        (
            {"smoke": FakeRun("ring", 0)},
            "preset smoke of study fake must be a dataclass with the fields seeds and seed",
        ),
        ({"smoke": {"seeds": 1, "seed": 0}}, "preset smoke of study fake must be a dataclass"),
    ],
)
def test_settings_that_are_none_are_refused(run_study, presets, message):
    study = a_study()
    study.presets = presets
    with pytest.raises(ValueError, match=message):
        run_study(study)


def a_study_in_two_stages():
    """Its later runs are those of the seed whose value was the largest."""

    def runs_after(settings, histories):
        best = max(histories, key=lambda label: histories[label][-1]["value"])
        seed = int(best.split()[-1])
        return {f"star, seed {100 * seed + k}": FakeRun("star", 100 * seed + k) for k in range(settings.seeds)}

    study = a_study()
    study.runs_after = runs_after
    return study


def test_later_runs_depend_on_what_the_first_found_and_are_reported_with_them(run_study, tmp_path):
    train = Trainer()
    summary = run_study(a_study_in_two_stages(), train)
    assert [(run.graph, run.seed) for run in train.trained] == [("ring", s) for s in range(3)] + [
        ("star", s) for s in (100, 101, 102)
    ]
    assert (summary["runs"], summary["trained"]) == (6, 6)
    assert summary["claims"][0]["n"] == 6
    assert run_study(a_study_in_two_stages(), Trainer())["trained"] == 0


def test_later_runs_alone_are_tried_again_where_one_failed(run_study):
    with pytest.raises(StudyError, match="run 'star, seed 101': RuntimeError: no"):
        run_study(a_study_in_two_stages(), Trainer({101: RuntimeError("no")}))
    again = Trainer()
    summary = run_study(a_study_in_two_stages(), again)
    assert ([run.seed for run in again.trained], summary["trained"]) == ([101], 1)


def test_later_runs_that_cannot_be_told_are_the_studys_mistake(run_study):
    study = a_study_in_two_stages()
    study.runs_after = lambda settings, histories: histories["no such run"]
    with pytest.raises(StudyError, match="the further runs of fake cannot be made"):
        run_study(study)


def test_later_runs_cannot_take_the_labels_of_the_first(run_study):
    study = a_study_in_two_stages()
    study.runs_after = lambda settings, histories: study.runs(settings)
    with pytest.raises(StudyError, match="is the label of two runs; give each its own"):
        run_study(study)
