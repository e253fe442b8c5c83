"""Files that anybody may have put where ours were: no pipe is waited for, no device read, JSON is that or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def check_plain(path: Path) -> None:
    """FileNotFoundError where there is no such file, ValueError where it is none: a folder, a pipe, a device."""
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path} is not a file")


def text_of(path: Path) -> str:
    """UTF-8 text; ValueError where it is something else, OSError where it cannot be read."""
    check_plain(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


def json_of(text: str, name: object) -> Any:
    """The value of a JSON text; ValueError that begins with its `name`."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}, is not JSON: {error.msg}") from None
    except (RecursionError, ValueError):  # nested without end, a number of thousands of digits
        raise ValueError(f"{name}, is not JSON of a reasonable depth and size") from None


def json_in(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError where it holds something else."""
    found = json_of(text_of(path), f"{path}, line 1")
    if not isinstance(found, dict):
        raise ValueError(f"{path}, line 1, is not a JSON object")
    return found
