"""A run's folder: written whole, read back the same, and never half-written or in a place it must not touch."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess

import numpy as np
import pytest
import torch
import yaml

from dsgd import results
from dsgd.atomic import write_atomically
from dsgd.results import RunFolder
from dsgd.snapshots import snapshot_steps

CONFIG = {"task": {"name": "digits"}, "learning_rate": {"lr": 1e-5}, "widths": (64, 32)}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "a", CONFIG, device="cpu")


def test_a_finished_run_is_read_back_as_it_was(folder):
    ensemble = {"w": torch.arange(12.0).reshape(4, 3), "b": torch.zeros(4, dtype=torch.float64)}
    folder.measured({"step": 0, "loss": 2.5})
    folder.snapshotted(200, ensemble)
    folder.snapshotted(50, ensemble)
    folder.stepped(1)
    folder.measured({"step": 200, "loss": 0.5})
    summary = folder.finish(ensemble, steps=200)

    assert results.read_history(folder.path) == [{"step": 0, "loss": 2.5}, {"step": 200, "loss": 0.5}]
    assert results.read_summary(folder.path) == summary
    assert summary == {"status": "ok", "run_dir": str(folder.path), "steps": 200, "metrics": {"step": 200, "loss": 0.5}}
    assert snapshot_steps(folder.path) == [50, 200]
    for read in (results.read_ensemble(folder.path), results.read_ensemble(folder.path, step=200)):
        assert set(read) == {"w", "b"}
        assert all(torch.equal(read[name], leaf) and read[name].dtype == leaf.dtype for name, leaf in ensemble.items())
    events = [json.loads(line)["event"] for line in (folder.path / "events.jsonl").read_text().splitlines()]
    assert events == ["started", "finished"]


def test_the_config_is_read_by_safe_yaml_with_its_numbers_intact(folder):
    read = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert read == {"task": {"name": "digits"}, "learning_rate": {"lr": 1e-5}, "widths": [64, 32]}


def test_leaves_that_are_views_into_one_storage_are_written_as_they_look(folder):
    rows = torch.arange(20.0).reshape(4, 5)
    folder.finish({"left": rows[:, :2], "right": rows[:, 2:]})
    assert torch.equal(results.read_ensemble(folder.path)["right"], rows[:, 2:])


def test_what_is_not_finite_becomes_null(folder):
    folder.measured({"step": 1, "a": math.nan, "b": math.inf, "c": np.float32("nan"), "d": np.int64(3)})
    assert "NaN" not in (folder.path / "metrics.jsonl").read_text()
    assert results.read_history(folder.path) == [{"step": 1, "a": None, "b": None, "c": None, "d": 3}]


def test_a_failed_run_says_why(folder):
    folder.fail(FloatingPointError("3 replicas are not finite"), label="ring")
    summary = results.read_summary(folder.path)
    assert (summary["status"], summary["label"]) == ("failed", "ring")
    assert summary["error"] == "FloatingPointError: 3 replicas are not finite"


def test_an_interrupted_run_is_no_failure(folder):
    summary = folder.fail(KeyboardInterrupt(), steps=3)
    assert summary == {"status": "interrupted", "run_dir": str(folder.path), "steps": 3}
    assert json.loads((folder.path / "events.jsonl").read_text().splitlines()[-1])["event"] == "interrupted"


def test_a_summary_that_finds_no_room_is_returned_and_says_why(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "write_atomically", full)
    summary = folder.fail(FloatingPointError("diverged"), steps=3)
    assert summary["error"] == "FloatingPointError: diverged"
    assert (summary["steps"], summary["unwritten"]) == (3, "No space left on device")


@pytest.mark.parametrize("row", ['{"loss": 1}', '{"step": "2"}', '{"step": null}', "{}"])
def test_a_row_without_its_step_is_refused_by_file_and_line(folder, row):
    folder.measured({"step": 0})
    with (folder.path / "metrics.jsonl").open("a") as rows:
        rows.write(f"{row}\n")
    before = (folder.path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2, has no step that is a whole number$"):
        folder.rewind(5)
    assert (folder.path / "metrics.jsonl").read_bytes() == before


def test_an_unfinished_run_has_no_summary(folder):
    with pytest.raises(FileNotFoundError):
        results.read_summary(folder.path)


def test_a_line_cut_by_a_crash_is_left_out_and_a_damaged_one_is_named(folder):
    folder.measured({"step": 0})
    metrics = folder.path / "metrics.jsonl"
    with metrics.open("a") as lines:
        lines.write('{"step": 5')
    assert results.read_history(folder.path) == [{"step": 0}]
    metrics.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not JSON"):
        results.read_history(folder.path)
    metrics.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"line 1, is not a JSON object"):
        results.read_history(folder.path)


def test_an_occupied_place_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"is not empty: give a new or empty folder"):
        RunFolder.create(tmp_path, CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileExistsError, match=r"is a file"):
        RunFolder.create(tmp_path / "mine.txt", CONFIG)


def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match=r"is a symbolic link"):
        RunFolder.create(tmp_path / "link", CONFIG)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_nothing_is_made_for_a_config_that_cannot_be_written(tmp_path):
    with pytest.raises(yaml.YAMLError):
        RunFolder.create(tmp_path / "new", {"part": object()}, device="cpu")
    assert not (tmp_path / "new").exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_atomically(tmp_path / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.txt", "new \ud800")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_truncated_ensemble_is_named(folder):
    folder.finish({"w": torch.ones(2, 3)})
    file = folder.path / "ensemble.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"ensemble\.safetensors is not a readable safetensors file"):
        results.read_ensemble(folder.path)


def test_the_recorded_machine_holds_no_variable_no_path_and_no_host(folder, monkeypatch):
    monkeypatch.setenv("MY_API_TOKEN", "hunter2-hunter2")
    environment = results.environment("cpu")
    assert set(environment) == {"python", "platform", "cpus", "threads", "device", "versions", "git"}
    assert set(environment["versions"]) == {"python", "dsgd", "torch", "numpy", "networkx", "scipy", "numba", "ray"}
    assert environment["device"] == "cpu"
    text = json.dumps(environment)
    assert "hunter2" not in text
    assert "/" not in text
    assert results.read_environment(folder.path).keys() == environment.keys()


def test_the_commit_is_recorded_and_the_user_s_index_left_alone(tmp_path, monkeypatch):
    def git(*words):
        return subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    head = git("rev-parse", "HEAD").strip()
    monkeypatch.setattr(results, "checkout", lambda: tmp_path)
    commit = results.git_commit.__wrapped__
    os.utime(tmp_path / "a", (1, 1))  # of which the index would be told
    index = (tmp_path / ".git" / "index").read_bytes()
    (tmp_path / "untracked").touch()
    assert commit() == head
    (tmp_path / "a").write_text("2")
    assert commit() == f"{head}-dirty"
    assert (tmp_path / ".git" / "index").read_bytes() == index
    monkeypatch.setattr(results, "checkout", lambda: tmp_path / "gone")
    assert commit() is None


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a" * 101, "a\n", "-x", "a b", "ä"])
def test_a_name_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(ValueError, match=r"cannot name a folder: allowed are 1 to 100 letters"):
        results.default_folder(name)


def test_the_default_folder_is_new_each_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = results.default_folder("digits-ring")
    assert re.fullmatch(r"runs/digits-ring-\d{8}-\d{6}", first.as_posix())
    made = {first}
    for _ in range(3):
        first.mkdir(parents=True, exist_ok=True)
        first = results.default_folder("digits-ring")
        assert first not in made
        made.add(first)


def test_a_folder_is_not_rewound_in_part(folder):
    folder.measured({"step": 0})
    folder.measured({"step": 5})
    (folder.path / "events.jsonl").write_bytes(b"\xff\n")
    before = (folder.path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"events\.jsonl is not UTF-8"):
        folder.rewind(0)
    assert (folder.path / "metrics.jsonl").read_bytes() == before
