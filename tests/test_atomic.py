"""A file that replaces another is on disk before its name is, and its name before the block is left."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from dsgd.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_file_is_flushed_before_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, bool]] = []

    def recording(descriptor: int) -> None:
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "a.txt").exists()))

    monkeypatch.setattr(os, "fsync", recording)
    write_atomically(tmp_path / "a.txt", "new")
    assert flushed == [(False, False), (True, True)]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_opened_is_left_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", refusing)
    write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
