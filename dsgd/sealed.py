"""Folders that appear whole or not at all, with a manifest by which every flipped bit in them is found.

A flipped bit inside a safetensors file loads silently, so a folder is checked before any of its files is parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsgd.atomic import flush_file, flush_folder
from dsgd.plain_files import check_plain, json_of, text_of

MANIFEST = "MANIFEST.json"


class Damaged(ValueError):
    """What is wrong with a sealed folder, in a sentence."""


@contextlib.contextmanager
def sealing(path: Path, note: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder that takes the place `path`, flushed to disk, when the block ends well.

    Its manifest holds `note`, and the size and SHA-256 of each file.
    """
    temporary = _aside(path)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        files = {file.name: _facts(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(_text({**note, "files": files}), encoding="utf-8")
        for file in temporary.iterdir():
            flush_file(file)
        flush_folder(temporary)
        if path.exists():
            remove(path)
        temporary.rename(path)
        flush_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of a sealed folder, itself checked; Damaged where it is not as it was written."""
    try:
        text = text_of(path / MANIFEST)
        content = json_of(text, path / MANIFEST)
        intact = text == _text({name: value for name, value in content.items() if name != "sha256"})
    except OSError as error:
        raise Damaged(f"{path / MANIFEST} cannot be read ({error.strerror or error})") from None
    except (ValueError, AttributeError):
        intact = False
    if not intact:
        raise Damaged(f"{path / MANIFEST} is not as it was written")
    found: dict[str, Any] = content
    return found


def check_files(path: Path, manifest: Mapping[str, Any], names: Iterable[str]) -> None:
    """Damaged naming the first of these files that is not as the manifest says."""
    for name in names:
        expected = manifest.get("files", {}).get(name, {"bytes": 0})
        try:
            check_plain(path / name)
            found = _facts(path / name)
        except (OSError, ValueError) as error:
            raise Damaged(f"{path / name} cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if found["bytes"] != expected["bytes"]:
            raise Damaged(f"{path / name} has {found['bytes']} bytes of {expected['bytes']}")
        if found != expected:
            raise Damaged(f"{path / name} has other bytes than were written")


def remove(path: Path) -> None:
    """Removes a folder such that at no moment a part of it is left in its place."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path.rename(_aside(path, ".old")))


def _aside(path: Path, mark: str = "") -> Path:
    return path.with_name(f"{path.name}{mark}.tmp-{os.getpid()}")


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": _digest(file)}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    """The manifest with its own hash, so that it vouches for itself too."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": own}, sort_keys=True, indent=2) + "\n"
