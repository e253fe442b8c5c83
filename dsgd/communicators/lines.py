"""Short messages between places on one machine, through pipes: who waits is woken by who writes, no thread between.

A place opens its peers' pipes as it does their memory (`dsgd.communicators.shared`): through the process that holds
them. Once they are open only the writer holds a pipe's end for writing, so that the reader hears at once when it dies.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dsgd.communicators.messages import MessageError, PeerLost

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

START = struct.Struct("<QI")  # number of the exchange, bytes that follow
KEPT = 8  # exchanges: who asks for a letter has not asked for one of many exchanges after it
LONGEST = 4096 - START.size  # bytes of a letter: what a pipe takes is never mixed with another's up to 4096
MOMENT = 0.05  # seconds
MOST = 2**31 - 1  # milliseconds that can be waited for


class Line:
    """Both directions between places `me` and `peer`, by the ends of two pipes here, which it closes in the end.

    In each exchange that either of the two has a letter in, both write one: so whoever has read that of its peer knows
    that the peer is done with the exchange before. A peer silent for `timeout` seconds is lost.
    """

    def __init__(self, me: int, peer: int, reading: int, writing: int, timeout: float) -> None:
        os.set_blocking(writing, False)
        self._me, self._peer, self._timeout = me, peer, timeout
        self._reading, self._writing = reading, writing
        self._readable = select.poll()
        self._readable.register(reading, select.POLLIN)
        self._letters: dict[int, bytes] = {}
        self._newest = 0
        self._silent_since: float | None = None  # since when a letter has been waited for

    def __del__(self) -> None:
        os.close(self._reading)
        os.close(self._writing)

    def write(self, number: int, letter: bytes) -> None:
        """Sends a letter, of at most LONGEST bytes, in the exchange of this number; they ascend."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                os.write(self._writing, START.pack(number, len(letter)) + letter)
            except BlockingIOError:
                self._take(MOMENT)  # the peer too may wait until what it wrote is read
                if time.monotonic() > until:
                    raise self._lost() from None
            except OSError:
                raise self._lost() from None
            else:
                return

    def read(self, number: int, seconds: float | None) -> bytes | None:
        """The peer's letter of this exchange, one of the latest, as often as asked; None where it comes later."""
        began = time.monotonic()
        while self._newest < number:
            self._silent_since = self._silent_since or began
            lost_at = self._silent_since + self._timeout
            until = lost_at if seconds is None else min(lost_at, began + seconds)
            if not self._take(until - time.monotonic()):
                if time.monotonic() >= lost_at:
                    raise self._lost()
                return None
        self._letters = {old: letter for old, letter in self._letters.items() if old > number - KEPT}
        if number not in self._letters:
            raise MessageError(f"place {self._peer} is at exchange {self._newest}, due was {number}")
        return self._letters[number]

    def _take(self, seconds: float) -> bool:
        """Whether a letter has come within so many seconds."""
        if not self._readable.poll(min(MOST, max(0.0, 1000 * seconds))):
            return False
        start = os.read(self._reading, START.size)
        if not start:
            raise self._lost()
        self._newest, length = START.unpack(start)
        self._letters[self._newest] = os.read(self._reading, length) if length else b""
        self._silent_since = None
        return True

    def _lost(self) -> PeerLost:
        return PeerLost(f"place {self._peer} is gone, or did not answer place {self._me} within {self._timeout:g} s")


def lines(store: Store, me: int, mates: Mapping[int, int], timeout: float) -> dict[int, Line]:
    """A line to each of the places `mates`, given by their processes; all must call it."""
    pipes, opened = {k: os.pipe() for k in mates}, dict[int, Line]()
    try:
        store.set(f"lines {me}", json.dumps({k: writing for k, (_, writing) in pipes.items()}))
        for k, pid in mates.items():
            theirs = json.loads(store.get(f"lines {k}"))[str(me)]
            opened[k] = Line(me, k, pipes[k][0], os.open(f"/proc/{pid}/fd/{theirs}", os.O_WRONLY), timeout)
        store.set(f"opened {me}", "")
        store.wait([f"opened {k}" for k in mates])
    except OSError as error:
        raise PeerLost(f"the pipe of a place on this machine cannot be opened ({error})") from error
    finally:
        for k, (reading, writing) in pipes.items():
            os.close(writing)
            if k not in opened:
                os.close(reading)
    return opened
