"""`dsgd run` prints a summary or a table, has a folder of its own, and says how it ended."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from dsgd.config import load_config

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd
from tests.cli.small import SMALL

ROW = (
    "step",
    "train_loss_mean_model",
    "test_loss_mean_model",
    "test_accuracy_mean_model",
    "test_accuracy_replicas_mean",
    "test_accuracy_replicas_worst",
    "consensus_distance",
    "trace_xi",
    "bytes_sent",
)


def test_a_run_prints_its_summary_alone_as_json(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "--out", "here", "--json")
    summary = json.loads(out)
    assert (status, summary["status"], summary["run_dir"], summary["steps"]) == (0, "ok", "here", 4)
    assert summary["seconds"] > 0
    assert summary["replica_steps_per_second"] == pytest.approx(16 / summary["seconds"])
    assert set(ROW) <= set(summary["metrics"])
    assert summary["metrics"]["step"] == 4
    assert "step 4/4" in err
    assert {"config.yaml", "metrics.jsonl", "events.jsonl", "env.json", "summary.json"} <= {
        path.name for path in (tmp_path / "here").iterdir()
    }
    assert load_config("here/config.yaml") == load_config("here/config.yaml", SMALL)


def test_a_run_has_a_folder_of_its_own_and_a_table(dsgd_command: Dsgd, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("task: digits\n")
    status, out, _ = dsgd_command("run", "tiny.yaml", *SMALL[1:])
    (folder,) = (tmp_path / "runs").iterdir()
    assert (status, folder.name.startswith("tiny-")) == (0, True)
    assert f"run_dir                       runs/{folder.name}" in out
    assert "test_accuracy_replicas_worst" in out


@pytest.mark.parametrize("taken", ["full", "file", "link"])
def test_a_folder_that_is_taken_is_refused(dsgd_command: Dsgd, tmp_path: Path, taken: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    status, out, err = dsgd_command("run", *SMALL, "--out", taken)
    assert (status, out) == (2, "")
    assert err.startswith(f"--out: {taken} is ")


def test_a_dry_run_prints_a_configuration_and_trains_nothing(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, _ = dsgd_command("run", *SMALL, "--dry-run")
    (tmp_path / "resolved.yaml").write_text(out)
    assert status == 0
    assert load_config("resolved.yaml") == load_config("resolved.yaml", SMALL)
    status, out, err = dsgd_command("run", "resolved.yaml", "--dry-run", "--json")
    assert (status, "parameters" in err, json.loads(out)["topology"]["n"]) == (0, True, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["resolved.yaml"]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("{name: perplexity, others: [text]}", "metrics[0].others[0]: has inputs of shape (12,) and 96 classes"),
        ("features", "needs a model of two layers, and this has 3 matrices"),
        ("{name: drift, method: tent}", "no normalisation layer to adapt; take a model with one"),
        ("{name: drift, shots: 5000}", "class 6 has 36 held-out examples; 5000 shots need more"),
        ("{name: drift, batch_size: 5000}", "a session has 246 examples; a batch of 5000 needs more"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_the_run(
    dsgd_command: Dsgd, tmp_path: Path, metric: str, sentence: str
) -> None:
    words = ["task=emerging_classes", "task.source=digits", "model.widths=[4, 4]", f"metrics=[{metric}]"]
    status, out, err = dsgd_command("run", *words, "--out", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("metrics[0]")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["task=text", "model=mlp"], "model: mlp would take tokens for numbers; take neural_lm or transformer"),
        (["task=digits", "model=neural_lm"], "model: The neural_lm model needs windows of tokens, of shape (context,)"),
        (["task=input_noise", "task.source=text", "model=neural_lm"], "task: source has tokens for inputs"),
        (["task=emerging_classes", "task.source=xor"], "task: source has 2 classes; take data of 3 or more"),
        (["task=label_noise"], "task.source: missing; give a name, one of digits, "),
    ],
)
def test_data_that_do_not_fit_are_refused_before_the_run(
    dsgd_command: Dsgd, tmp_path: Path, words: list[str], sentence: str
) -> None:
    status, out, err = dsgd_command("run", *words, "--out", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_pretraining_on_other_data_is_refused_before_the_run(dsgd_command: Dsgd, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: digits\npretraining: {name: pretrained, data: text, steps: 3}\n")
    status, out, err = dsgd_command("run", "run.yaml", "--out", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("pretraining: its data have inputs of shape (12,), 96 classes")
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_run_that_diverges_fails_with_a_sentence(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "learning_rate.lr=1e38", "--out", "here", "--json")
    summary = json.loads(out)
    assert (status, summary["status"]) == (1, "failed")
    assert json.loads((tmp_path / "here" / "summary.json").read_text()) == summary
    assert "not finite after" in err.splitlines()[-1]
    assert "lower learning_rate.lr" in err.splitlines()[-1]


def test_a_table_says_of_which_step_its_metrics_are(dsgd_command: Dsgd) -> None:
    assert "metrics_as_of_step" not in dsgd_command("run", *SMALL)[1]
    status, out, _ = dsgd_command("run", *SMALL, "learning_rate.lr=1e38")
    assert status == 1
    assert re.search(r"metrics_as_of_step +\d\n", out)


def test_a_table_tells_of_the_twins(dsgd_command: Dsgd) -> None:
    _, out, _ = dsgd_command("run", *SMALL, "twins=[average_direction_sam, centralized]")
    names = [line.split()[0] for line in out.splitlines()]
    for twin in ("average_direction_sam", "centralized"):
        assert {f"{twin}_test_accuracy", f"{twin}_distance"} <= set(names)
    assert len(names) == len(set(names))


def test_an_interrupted_run_exits_130_and_says_where_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsgd.cli", "run", *SMALL, "steps=1000000", "--out", "here"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, waited = tmp_path / "here" / "metrics.jsonl", time.monotonic()
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() - waited < 60:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(r"^interrupted after \d+ steps; to go on: dsgd resume here$", err, re.M)
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["status"] == "interrupted"
