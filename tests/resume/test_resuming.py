"""`dsgd resume` goes on where a run stopped, puts right what a crash left, and refuses what is another run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dsgd.checkpoints import generations, step_of
from dsgd.fingerprint import origin
from dsgd.locks import LOCK, locked
from dsgd.results import read_summary
from dsgd.run import Run
from tests.conftest import Dsgd
from tests.resume.interrupted import SMALL, Make, assert_same_run, events_of
from topologies import (
    Static,
    Topology,
)


def test_a_run_that_is_signalled_stops_after_its_step_and_resumes(dsgd_command: Dsgd, signalled: Any) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signalled(13)
    status, out, err = dsgd_command("run", *SMALL, "--out", "a run", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (143, "interrupted", 13)
    assert err.splitlines()[-1] == "interrupted after 13 steps; to go on: dsgd resume 'a run'"
    assert not (Path("a run") / LOCK).exists()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    signalled(30, signal.SIGINT)
    status, out, err = dsgd_command("resume", "a run")
    assert status == 130
    assert re.search(r"^status +interrupted\n", out)
    assert "interrupted after 30 steps" in err
    signalled(99)
    status, out, err = dsgd_command("resume", "a run", "--json")
    summary, whole = json.loads(out), read_summary("whole")
    assert (status, summary["resumed_at"]) == (0, 30)
    assert summary.keys() == {*whole, "resumed_at"}
    assert {**summary, **dict.fromkeys(timed := ("seconds", "replica_steps_per_second", "run_dir", "resumed_at"))} == {
        **whole,
        **dict.fromkeys(timed),
    }
    assert_same_run(Path("a run"), Path("whole"))
    assert events_of(Path("a run")) == [
        ("started", None),
        ("interrupted", None),
        ("resumed", 13),
        ("interrupted", None),
        ("resumed", 30),
        ("finished", None),
    ]
    assert [step_of(path) for path in generations(Path("a run"))] == [24, 30, 32]


def test_a_finished_run_is_shown_again_and_left_as_it_is(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "steps=8", "--out", "here")[0] == 0
    assert not Path("here/checkpoints").exists()  # a small run keeps none
    before = {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")}
    status, out, err = dsgd_command("resume", "here", "--json")
    assert (status, err) == (0, "here is finished; nothing is left to do\n")
    assert json.loads(out) == read_summary("here")
    assert dsgd_command("resume", "here")[1].startswith("status ")
    assert {path: path.stat().st_mtime_ns for path in Path("here").rglob("*")} == before


@pytest.fixture
def stopped(dsgd_command: Dsgd, signalled: Any) -> Path:
    """A run that was stopped after 13 of 40 steps."""
    signalled(13)
    assert dsgd_command("run", *SMALL, "--out", "here")[0] == 143
    signalled(99)
    return Path("here")


def test_what_a_crash_left_is_put_right(dsgd_command: Dsgd, stopped: Path) -> None:
    """Rows and snapshots after the checkpoint, lines that were cut, temporary files; the user's own file stays."""
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    dead = subprocess.Popen(["true"])
    dead.wait()
    with (stopped / "metrics.jsonl").open("a") as rows:
        rows.write('{"step": 15, "loss": 1}\n{"step": 1')
    with (stopped / "events.jsonl").open("a") as events:
        events.write('{"time": "2')
    (stopped / "snapshots" / "step-000014.safetensors").write_bytes(b"later")
    for left in (f"snapshots/.a.tmp-{dead.pid}", f".summary.json.tmp-{dead.pid}"):
        (stopped / left).touch()
    (stopped / "checkpoints" / f"ckpt-000014.tmp-{dead.pid}").mkdir()
    (stopped / "mine.txt").write_text("keep")
    (stopped / LOCK).write_text(f"{dead.pid}\n")
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(stopped, Path("whole"))
    assert (stopped / "mine.txt").read_text() == "keep"
    assert not list(stopped.rglob("*.tmp-*"))


def test_without_a_checkpoint_a_run_starts_anew(dsgd_command: Dsgd, stopped: Path) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    shutil.rmtree(stopped / "checkpoints")
    status, out, err = dsgd_command("resume", "here", "--json")
    assert (status, json.loads(out)["resumed_at"]) == (0, 0)
    assert err.startswith("here holds no complete checkpoint; the run starts anew\n")
    assert_same_run(stopped, Path("whole"))


def test_a_damaged_checkpoint_is_gone_back_from_or_with_strict_refused(dsgd_command: Dsgd, stopped: Path) -> None:
    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    newest = generations(stopped)[-1] / "replicas.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    status, out, err = dsgd_command("resume", "here", "--strict")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"{newest} has ")
    status, out, err = dsgd_command("resume", "here", "checkpoint_every=25", "--json")
    assert (status, json.loads(out)["resumed_at"]) == (0, 8)
    assert err.splitlines()[0].startswith(f"warning: {newest} has ")
    assert err.splitlines()[0].endswith("; ckpt-000008 is taken instead")
    assert_same_run(stopped, Path("whole"))
    assert [step_of(path) for path in generations(stopped)] == [8, 25]  # what was damaged is gone


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gone"], "gone is no folder; give the folder of a run that dsgd run began"),
        (["."], ". has no config.yaml; give the folder of a run that dsgd run began"),
        (["here", "seed=3"], "seed=3: would make it another run; allowed are checkpoint_every, on_full_disk, backend"),
        (["here", "backend.device=tpu"], "backend.device: tpu; allowed are auto, cpu, cuda"),
        (["here", "checkpoint_every=no"], "checkpoint_every: 'no' given; allowed is a whole number"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_resumed_is_refused_in_a_line(
    dsgd_command: Dsgd, stopped: Path, arguments: list[str], expected: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    status, out, err = dsgd_command("resume", *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_a_changed_configuration_is_refused_and_what_decides_no_number_is_not(
    dsgd_command: Dsgd, stopped: Path
) -> None:
    config = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(config.replace("seed: 0\nd", "seed: 1\nd"))
    status, _, err = dsgd_command("resume", "here")
    assert status == 2
    assert re.search(r"^here/checkpoints/ckpt-000013 is of run \w{12}, and config.yaml describes \w{12}; ", err)
    (stopped / "config.yaml").write_text(config)
    overrides = ["checkpoint_every=1", "on_full_disk=stop", "backend.device=auto", "backend=local"]
    assert dsgd_command("resume", "here", *overrides)[0] == 0
    assert [step_of(path) for path in generations(stopped)] == [37, 38, 39]


def test_changed_data_are_refused_and_changed_sources_unless_accepted(
    dsgd_command: Dsgd, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsgd.cli import resuming

    known = resuming.origin

    def data_changed(run: Run) -> dict[str, str]:
        return {**known(run), "data": "0" * 64}

    monkeypatch.setattr(resuming, "origin", data_changed)
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(r"is of data \w{12}, and the data and files here are 0{12}; ", err)
    monkeypatch.setattr(resuming, "origin", lambda run: {**known(run), "sources": f"{'9' * 64} with torch 9.9"})
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    both = (
        r"here/checkpoints/ckpt-000013 is of dsgd (\S+), sources \w{12} with torch \d\.\d+, "
        r"and this is dsgd \1, sources 9{12} with torch 9\.9; "
    )
    assert re.match(both + "take that version, or go on in this one with --other-version$", err)
    status, _, err = dsgd_command("resume", "here", "--other-version")
    assert status == 0
    assert re.match(f"warning: {both}the numbers may be others than of one run$", err.splitlines()[0])


def test_a_graph_file_that_changed_is_other_data(small: Make, tmp_path: Path) -> None:
    graph = tmp_path / "graph.edgelist"
    graph.write_text("0 1\n1 2\n2 3\n3 0\n")
    run = small(topology=Static(Topology(str(graph), 4)))
    before = origin(run)
    graph.write_text("0 1\n1 2\n2 3\n")
    assert {name for name, value in origin(run).items() if value != before[name]} == {"data"}


def test_a_folder_at_which_another_is_at_work_is_refused(dsgd_command: Dsgd, stopped: Path) -> None:
    said = f"is in use by process {os.getpid()}: wait until it ends, or stop it\n"
    with locked(stopped):
        assert dsgd_command("resume", "here") == (2, "", f"here {said}")
        assert dsgd_command("run", *SMALL, "--out", "here") == (2, "", f"--out: here {said}")
    with locked(Path("study")):
        arguments = ("study", "consensus_distance", "--preset", "smoke", "--out", "study")
        assert dsgd_command(*arguments) == (2, "", f"study {said}")


def test_a_row_without_its_step_is_refused_in_a_line(dsgd_command: Dsgd, stopped: Path) -> None:
    with (stopped / "metrics.jsonl").open("a") as rows:
        rows.write('{"loss": 1}\n')
    status, out, err = dsgd_command("resume", "here")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.match(r"here/metrics.jsonl, line \d+, has no step that is a whole number$", err)
