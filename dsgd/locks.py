"""A folder for one process at a time: a lock that the system takes back when its holder dies, and the holder's PID."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"


class Busy(FileExistsError):
    """Another process is at work in the folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is in use by process {holder or 'unknown'}: wait until it ends, or stop it")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone while the block lasts; Busy where another has it.

    Folders that are not there are made, and removed again where nothing was put into them.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = _taken(folder)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(lock)
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


def refuse_busy(folder: Path) -> None:
    """Busy where another process is at work in the folder; nothing is made."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _lock(lock, fcntl.LOCK_SH, folder)
        finally:
            os.close(lock)


def _taken(folder: Path) -> int:
    """The open lock file, locked, with our PID in it."""
    while True:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _lock(lock, fcntl.LOCK_EX, folder)
            if _is_at(lock, folder / LOCK):
                os.truncate(lock, 0)
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # the holder before us removed it in the meantime


def _lock(lock: int, how: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(folder, os.pread(lock, 20, 0).decode(errors="replace").strip()) from None


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
