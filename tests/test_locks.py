"""A folder for one process at a time, however that one ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dsgd.locks import LOCK, Busy, locked, refuse_busy

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import pathlib, sys, time
from dsgd.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_by_name_and_a_dead_one_s_lock_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        said = rf"run is in use by process {holder.pid}: wait until it ends, or stop it"
        with pytest.raises(Busy, match=said), locked(folder):
            pass
        with pytest.raises(Busy, match=said):
            refuse_busy(folder)
        holder.kill()
    assert (folder / LOCK).read_text() == f"{holder.pid}\n"
    refuse_busy(folder)
    with locked(folder):
        assert (folder / LOCK).read_text() == f"{os.getpid()}\n"
    assert list(folder.iterdir()) == []  # it was there before


def test_what_was_made_for_the_lock_alone_is_removed(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "mine").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_a_lock_that_its_holder_removed_is_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits at a file that is no longer the lock looks again."""
    from dsgd import locks

    opened: list[int] = []
    lock = locks._lock

    def late(number: int, how: int, folder: Path) -> None:
        if not opened:
            (folder / LOCK).unlink()
        opened.append(number)
        lock(number, how, folder)

    monkeypatch.setattr(locks, "_lock", late)
    with locked(tmp_path):
        assert len(opened) == 2
        assert (tmp_path / LOCK).is_file()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()
