"""Ways in which a file comes to be another than it was written, each a function of its path; keyed by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Damage = Callable[[Path], None]


def cut_at(share: float, less: int = 0) -> Damage:
    def cut(path: Path) -> None:
        os.truncate(path, max(0, min(int(path.stat().st_size * share), path.stat().st_size) - less))

    return cut


def cut_after(size: int) -> Damage:
    return lambda path: os.truncate(path, min(size, path.stat().st_size))


def flip(place: float) -> Damage:
    """One bit of the byte at this share of the file."""

    def flipped(path: Path) -> None:
        content = bytearray(path.read_bytes())
        if content:
            content[int(place * (len(content) - 1))] ^= 0x40
            path.write_bytes(content)

    return flipped


def write(content: str | bytes) -> Damage:
    return lambda path: (path.write_text(content) if isinstance(content, str) else path.write_bytes(content)) and None


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_link(target: str) -> Damage:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def lists_for_mappings(path: Path) -> None:
    """Every second line's values replaced by others of another kind."""
    lines = path.read_text(errors="replace").splitlines()
    path.write_text("".join(f"{_other(line)}\n" for line in lines))


def _other(line: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return line
    return json.dumps({key: [value] for key, value in row.items()} if isinstance(row, dict) else {"was": row})


DAMAGES: dict[str, Damage] = {
    "empty": cut_at(0),
    "ten_bytes": cut_after(10),
    "half": cut_at(0.5),
    "less_one": cut_at(1.0, less=1),
    "flipped_first": flip(0),
    "flipped_middle": flip(0.5),
    "flipped_last": flip(1),
    "missing": lambda path: path.unlink(),
    "folder": to_folder,
    "link_to_itself": lambda path: to_link(path.name)(path),
    "link_to_zero": to_link("/dev/zero"),
    "fifo": to_fifo,
    "list": write("[]\n"),
    "null": write("null\n"),
    "nan": write("NaN\n"),
    "text": write("what is this\n"),
    "numbers": write('{"step": "x", "status": [1], "metrics": 7, "files": 3, "steps": null}\n'),
    "deep": write("[" * 100_000),
    "zeros": write(b"\x00" * 100),
    "not_utf8": write(b"\xff\xfe{}\n"),
    "other_kinds": lists_for_mappings,
    "huge_header": write(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
    "large_number": write('{"step": ' + "9" * 5000 + "}\n"),
}


def garbled(content: bytes, random: Random) -> bytes:
    """The bytes with a few of them cut, doubled, changed, or put elsewhere."""
    for _ in range(random.choice((1, 1, 2, 5))):
        start, stop = sorted(random.randrange(len(content) + 1) for _ in range(2))
        part = content[start:stop]
        ways: tuple[Any, ...] = (
            content[:start],
            content[:start] + content[stop:],
            content[:start] + part * 2 + content[stop:],
            content[:start] + part[::-1] + content[stop:],
            content[:start] + bytes([random.randrange(256)]) + content[start + 1 :],
            content[:start] + random.choice(SNIPPETS) + content[start:],
            content.replace(b"1", random.choice(SNIPPETS), 1),
            content.replace(b'"', b"", 1),
        )
        content = random.choice(ways)
    return content


SNIPPETS = (
    *(b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b"\x00", b"\xff", b'"', b"<", b">", b"&", b"\n", b","),
    *(b"0.5", b"99999999999999999999", b"true", b"\xef\xbb\xbf", b"<!ENTITY a 'b'>", b"&a;", b"]]>", b"# "),
)


def put_back(source: Path, folder: Path) -> None:
    """The folder as the source is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, symlinks=True)
