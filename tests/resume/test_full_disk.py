"""A run whose disk is full stops, fails or goes on as it was asked to, and says how it ended."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dsgd.results import RunFolder, read_summary
from tests.conftest import Dsgd
from tests.resume.interrupted import SMALL, assert_same_run


def test_a_run_whose_disk_is_full_stops_where_that_is_asked(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    from dsgd import checkpoints

    assert dsgd_command("run", *SMALL, "--out", "whole")[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "sealing", full)
        status, out, err = dsgd_command("run", *SMALL, "on_full_disk=stop", "--out", "here", "--json")
        assert dsgd_command("run", *SMALL, "--out", "goes on")[0] == 0
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (1, "failed", 9)
    sentence = r"checkpoint here/checkpoints/ckpt-000008 of \d+ bytes could not be written \(No space left on device\)"
    assert re.search(rf"^warning: {sentence}; there is none before it, and the run stops$", err, re.M)
    assert re.search(rf"^failed: {sentence}$", err.splitlines()[-1])
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(Path("here"), Path("whole"))
    assert_same_run(Path("goes on"), Path("whole"))


def test_a_run_whose_ensemble_finds_no_room_fails_and_resumes(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    from dsgd import results

    assert dsgd_command("run", *SMALL, "snapshot_every=0", "--out", "whole")[0] == 0
    with monkeypatch.context() as patched:
        patched.setattr(results, "write_leaves", full)
        status, out, err = dsgd_command("run", *SMALL, "snapshot_every=0", "--out", "here", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (1, "failed", 40)
    assert "No space left on device" in err.splitlines()[-1]
    assert dsgd_command("resume", "here")[0] == 0
    assert_same_run(Path("here"), Path("whole"))


def test_a_run_ended_on_a_full_disk_still_says_how_it_ended(
    dsgd_command: Dsgd, signalled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    signalled(13)
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "_close", full)
        status, out, err = dsgd_command("run", *SMALL, "--out", "here", "--json")
    assert (status, json.loads(out)["status"], json.loads(out)["steps"]) == (143, "interrupted", 13)
    assert err.splitlines()[-2:] == [
        "warning: here/summary.json could not be written (No space left on device)",
        "interrupted after 13 steps; to go on: dsgd resume here",
    ]
    with pytest.raises(FileNotFoundError):
        read_summary("here")
