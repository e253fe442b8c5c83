"""SIGINT and SIGTERM: the first asks a run to stop when it can, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143  # exit statuses, as a shell gives them
STOPS = b"the run stops soon: after this step, or where it is in several places at the next multiple of 8; "
SECONDS_UNTIL_IT_RINGS_AGAIN = 0.02  # where nobody could have caught it
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


def within(seconds: float) -> AbstractContextManager[None]:
    """Ends the block by TimeUp when the seconds are over, between two operations; not in another than the main thread.

    It is caught here: what the block has not done by then is not done.
    """
    here = threading.current_thread() is threading.main_thread()
    return _Alarm(seconds) if here and signal.getsignal(signal.SIGALRM) is not signal.SIG_IGN else nullcontext()


class _Alarm(AbstractContextManager[None]):
    """A class, for in what contextlib makes of a function the alarm could ring where nobody catches it any more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, SECONDS_UNTIL_IT_RINGS_AGAIN)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)
        return kind is TimeUp

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code not in (_Alarm.__enter__.__code__, _Alarm.__exit__.__code__):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise TimeUp


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
