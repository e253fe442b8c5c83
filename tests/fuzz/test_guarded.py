"""What watches over the fuzzed commands sees what it is there for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from guarded import Answer, contents


@pytest.mark.parametrize("status", [0, 2])
def test_a_traceback_is_a_fault_at_any_status(status: int) -> None:
    said = "Traceback (most recent call last):"
    assert Answer(status, "", said, 0.0).faults() == ["a traceback is printed"]
    assert Answer(status, "", "seed: -1 given", 0.0).faults() == []


def test_a_folder_is_another_where_a_byte_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_text("one")
    before = contents(tmp_path)
    assert contents(tmp_path) == before
    (tmp_path / "folder/a").write_text("two")
    assert [name for name, facts in contents(tmp_path).items() if facts != before[name]] == ["folder/a"]
