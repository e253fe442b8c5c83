"""SIGINT and SIGTERM: the first asks a run to stop when it can, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

INTERRUPTED, TERMINATED = 130, 143  # exit statuses, as a shell gives them
STOPS = b"the run stops soon: after this step, or where it is in several places at the next multiple of 8; "
SHOW_CURSOR = b"\x1b[?25h"  # a live line hides it


class Terminated(KeyboardInterrupt):
    """Ended by SIGTERM, else as by an interrupt."""


def status_of(error: KeyboardInterrupt) -> int:
    """The exit status of a command that it ended."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@dataclass
class Wish:
    """The signal by which the user asked to stop, if one came."""

    signal: int | None = None

    def stated(self) -> bool:
        return self.signal is not None

    def error(self) -> KeyboardInterrupt:
        """What the run ended by."""
        return Terminated() if self.signal == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def wishing() -> Iterator[Wish]:
    """The wish to stop, stated by a first signal while the block lasts; a second one ends the process with 130 or 143.

    In another than the main thread signals are left as they are.
    """
    wish = Wish()

    def heed(number: int, frame: Any) -> None:
        if wish.stated():
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR)
            os._exit(128 + number)
        wish.signal = number
        os.write(2, STOPS + b"once more ends it at once\n")

    with _handling(heed, signal.SIGINT, signal.SIGTERM):
        yield wish


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated while the block lasts."""

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    with _handling(terminate, signal.SIGTERM):
        yield


class TimeUp(BaseException):
    """The seconds of `within` are over; no Exception, so that nobody on the way takes it for one of theirs."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends the block by TimeUp when the seconds are over, between two operations; not in another than the main thread.

    It is caught here: what the block has not done by then is not done.
    """

    def ring(number: int, frame: Any) -> None:
        raise TimeUp

    with suppress(TimeUp), _handling(ring, signal.SIGALRM):
        if threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _handling(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    """The handler for those of the signals that this process does not ignore."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
