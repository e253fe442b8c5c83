"""Memory that the places on one machine can read of each other, so that rows need not pass through the network there.

It has no name: a peer opens it through the process that holds it (/proc/PID/fd), and it is gone with that process. Who
can do so with whom is found out once, over the store at which the places meet. Linux only; elsewhere nobody can.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch._C._distributed_c10d import Store

KEPT = 4  # rooms of a peer that stay mapped: two in turns for rows that are mixed, and two for means
_NUMBERS = count(1)


class Room:
    """`size` bytes of shared memory, `raw`; others find it by this process's number, `file` and `number`."""

    def __init__(self, size: int) -> None:
        self.file, self.number = os.memfd_create("dsgd"), next(_NUMBERS)
        os.ftruncate(self.file, size)
        self.raw = _mapped(self.file, size)

    def __len__(self) -> int:
        return len(self.raw)

    def __del__(self) -> None:
        os.close(self.file)  # what is mapped stays until nobody uses it


class Rooms:
    """The rooms of another process `pid`, of which the latest few stay mapped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._mapped: dict[int, Tensor] = {}

    def bytes_of(self, file: int, number: int, size: int) -> Tensor:
        """Those of a room, which `number` tells from earlier ones; OSError where it is not readable."""
        found = self._mapped.pop(number, None)
        if found is None:
            opened = os.open(f"/proc/{self.pid}/fd/{file}", os.O_RDWR)
            try:
                found = _mapped(opened, size)
            finally:
                os.close(opened)
        self._mapped[number] = found
        if len(self._mapped) > KEPT:
            del self._mapped[next(iter(self._mapped))]
        return found


def mates(store: Store, me: int, size: int) -> dict[int, int]:
    """The places of all `size` that share this one's machine, and their processes; each can read the other's rooms."""
    token = secrets.token_bytes(16)
    probe = Room(len(token)) if sys.platform == "linux" else None
    if probe:
        probe.raw.numpy()[:] = memoryview(token)
    own = {"machine": _machine(), "pid": os.getpid(), "file": probe.file if probe else -1, "token": token.hex()}
    store.set(f"room {me}", json.dumps(own))
    others = {k: json.loads(store.get(f"room {k}")) for k in range(size) if k != me}
    readable = [
        k for k, other in others.items() if own["machine"] and other["machine"] == own["machine"] and _reads(other)
    ]
    store.set(f"reads {me}", json.dumps(readable))
    return {k: others[k]["pid"] for k in others if me in json.loads(store.get(f"reads {k}")) and k in readable}


def _reads(other: dict[str, Any]) -> bool:
    """Whether another place's room can be read here and holds what it says; so it is that place's indeed."""
    token = bytes.fromhex(other["token"])
    try:
        with open(f"/proc/{other['pid']}/fd/{other['file']}", "r+b") as room:
            return room.read() == token
    except OSError:
        return False


def _machine() -> str | None:
    """The same in two processes only if they see each other's: one boot, one space of process numbers, one network."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()} {Path('/proc/self/ns/net').readlink()}"
    except OSError:
        return None


def _mapped(file: int, size: int) -> Tensor:
    import torch

    return torch.frombuffer(mmap.mmap(file, size), dtype=torch.uint8)
