"""Whatever ends a write, a crash, a dead process, a full disk: what was there before is there still."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsgd import checkpoints
from dsgd.atomic import remove_stale
from dsgd.checkpoints import NotKept, generations
from dsgd.communicators import Local
from dsgd.fingerprint import origin
from dsgd.keeping import FolderKeeper, Keeping
from dsgd.loop import Stopped, simulate
from dsgd.models import Mlp
from dsgd.optimizers import AdamW
from dsgd.results import RunFolder
from dsgd.run import Run
from dsgd.simulation import Simulation
from tests.worlds import CPU, FILES, Make, kept, newest, world_after


def test_at_no_moment_is_half_a_checkpoint_in_its_place(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the process is killed: nothing is removed under a checkpoint's own name."""
    kept(tmp_path, small(), 5)
    removed, rmtree = list[Path](), shutil.rmtree

    def watched(path: Path, **how: Any) -> None:
        removed.append(path)
        assert all(set(FILES) <= {file.name for file in found.iterdir()} for found in generations(tmp_path))
        rmtree(path, **how)

    monkeypatch.setattr(shutil, "rmtree", watched)
    kept(tmp_path, small(), 5, 6, 7, 8)
    assert removed
    assert not [path for path in removed if ".tmp-" not in path.name]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if ".tmp-" in path.name] == []


def test_damaged_generations_go_first_and_only_once_a_new_one_is_whole(small: Make, tmp_path: Path) -> None:
    run = small()
    *_, damaged = kept(tmp_path, run, 10, 20, 30)
    folder = RunFolder(tmp_path)
    for name in ("metrics.jsonl", "events.jsonl"):
        (tmp_path / name).touch()
    keeper = FolderKeeper(folder, Keeping(5), 99, origin(run), lambda: False, print, damaged=[damaged])
    start = world_after(run, 0)
    with files_up_to(10_000):
        keeper.keep(replace(start, step=35))
    assert [checkpoints.step_of(path) for path in generations(tmp_path)] == [10, 20, 30]
    keeper.keep(replace(start, step=35))
    assert [checkpoints.step_of(path) for path in generations(tmp_path)] == [10, 20, 35]
    keeper.keep(replace(start, step=40))
    assert [checkpoints.step_of(path) for path in generations(tmp_path)] == [20, 35, 40]


def test_what_a_dead_process_left_is_removed_and_a_living_one_s_is_not(small: Make, tmp_path: Path) -> None:
    kept(tmp_path, small(), 5)
    dead = subprocess.Popen(["true"])
    dead.wait()
    inside = tmp_path / "checkpoints"
    for pid in (dead.pid, os.getppid(), os.getpid()):
        (inside / f"ckpt-000010.tmp-{pid}").mkdir()
        (inside / f"ckpt-000010.tmp-{pid}" / "state.json").touch()
    (inside / f".ensemble.tmp-{dead.pid}").touch()
    (inside / "mine.tmp-x").touch()
    remove_stale(inside)
    assert sorted(path.name for path in inside.iterdir()) == sorted(
        ["ckpt-000005", f"ckpt-000010.tmp-{os.getppid()}", "mine.tmp-x"]
    )


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: as a full disk, but for the reason given."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def assert_as_before(folder: Path, run: Run) -> None:
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["ckpt-000005"]
    assert newest(folder, run, strict=True) is not None


def test_a_limit_leaves_what_was_and_says_path_bytes_and_reason(small: Make, tmp_path: Path) -> None:
    run = small()
    kept(tmp_path, run, 5)
    bytes_of = 4 * 610 * 8
    with (
        files_up_to(10_000),
        pytest.raises(NotKept, match=rf"ckpt-000010 of {bytes_of} bytes could not be written \(File too large"),
    ):
        kept(tmp_path, run, 10)
    assert_as_before(tmp_path, run)


@pytest.mark.parametrize("failing", ["write_text", "rename"])
def test_a_write_that_fails_at_any_point_leaves_what_was(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    run = small()
    kept(tmp_path, run, 5)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, failing, full)
        with pytest.raises(NotKept, match=r"could not be written \(No space left on device\)"):
            kept(tmp_path, run, 10)
    assert_as_before(tmp_path, run)


@pytest.mark.slow
def test_a_full_disk_leaves_what_was(small: Make, tmp_path: Path) -> None:
    (disk := tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        run = small(model=Mlp((256,)), dtype="float64")  # 615 kB
        kept(disk, run, 5)
        with pytest.raises(NotKept, match=r"of 614720 bytes could not be written \(No space left on device"):
            kept(disk, run, 10)
        assert_as_before(disk, run)
        trained_on_a_full_disk(small(model=Mlp((128,)), optimizer=AdamW()), disk / "run")  # 0.3 of 0.9 MB
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def trained_on_a_full_disk(run: Run, path: Path) -> None:
    """It ends well by the one policy, with one warning and its events, and a step later by the other."""
    for policy in ("continue", "stop"):
        folder = RunFolder.create(path / policy, run.describe(), device="cpu")
        said: list[str] = []
        keeper = FolderKeeper(folder, Keeping(5, policy), run.steps, origin(run), lambda: False, said.append)
        if policy == "continue":
            simulate(Simulation(run, Local(4), CPU), (folder,), keeper=keeper)
        else:
            with pytest.raises(Stopped, match="after 6 steps"):
                simulate(Simulation(run, Local(4), CPU), (folder,), keeper=keeper)
        (sentence,) = said
        assert "could not be written" in sentence
        assert sentence.endswith(
            f"; there is none before it, and the run {'goes on' if policy == 'continue' else 'stops'}"
        )
        events = [json.loads(line)["event"] for line in (folder.path / "events.jsonl").read_text().splitlines()]
        assert events == ["started", *["not_kept"] * (3 if policy == "continue" else 2)]
        assert list((folder.path / "checkpoints").iterdir()) == []


def test_a_full_disk_stops_a_run_or_not_by_policy(small: Make, tmp_path: Path) -> None:
    with files_up_to(10_000):
        trained_on_a_full_disk(small(), tmp_path)


def test_a_disk_that_is_full_again_is_told_of_again_and_what_stops_a_run_stays_its_error(
    small: Make, tmp_path: Path
) -> None:
    run = small()
    start = world_after(run, 0)
    for policy, sentences in (("continue", 2), ("stop", 1)):
        said: list[str] = []
        folder = RunFolder.create(tmp_path / policy, run.describe(), device="cpu")
        keeper = FolderKeeper(folder, Keeping(5, policy), run.steps, origin(run), lambda: False, said.append)
        for step, size in ((1, 10_000), (2, 10_000), (3, 10**9), (4, 10_000)):
            with files_up_to(size):
                keeper.keep(replace(start, step=step))
            assert (keeper.failure is None) == (policy == "continue" and step == 3)
        assert len(said) == sentences
        assert "ckpt-000001" in said[0]
