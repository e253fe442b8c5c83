"""A file that is none is told from one that is not there; JSON without end is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsgd.plain_files import check_plain, json_in, text_of


@pytest.mark.parametrize("kind", ["folder", "fifo", "loop", "zero"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    with pytest.raises(ValueError, match=f"{kind} is not a file"):
        check_plain(path)
    with pytest.raises(ValueError, match="is not a file"):
        text_of(path)


def test_a_missing_one_is_told_from_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        text_of(tmp_path / "gone")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "line 1, is not JSON: "),
        ("[" * 100_000, "not JSON of a reasonable depth"),
        ("9" * 5000, "not JSON of a reasonable depth and size"),
        ("[]", "is not a JSON object"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "a").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        json_in(tmp_path / "a")


def test_text_is_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\xff")
    with pytest.raises(ValueError, match=r"a is not UTF-8 text \(byte 1\)"):
        text_of(tmp_path / "a")
