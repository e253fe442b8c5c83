"""Independent parts of one computation side by side in threads: torch and compiled loops let go of Python meanwhile.

Rows of an ensemble need nothing of each other, so a thread a block of rows keeps every core busy where torch's own
threads, which share out one operation at a time, wait for each other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise
from threading import Lock, Thread
from typing import TypeVar

Done = TypeVar("Done")

_LOCK, _ORIGINAL = Lock(), list[int]()  # torch's number of threads is one for the whole process
_COUNT: ContextVar[int | None] = ContextVar("threads", default=None)


def over_parts(work: Callable[[int, int], None], size: int) -> None:
    """Calls work(start, stop) on ranges that make up range(size), a thread each, in which torch has one thread.

    There are as many as `side_by_side` says, else as torch has threads. One range alone has all of torch's threads.
    """
    import torch

    threads = _COUNT.get() or torch.get_num_threads()
    count = min(threads, size)
    if count <= 1:
        with torch_threads(threads):
            work(0, size)
        return
    edges = [size * k // count for k in range(count + 1)]
    with torch_threads(1):
        for done in [_pool(count).submit(work, *ends) for ends in pairwise(edges)]:
            done.result()


def in_thread(work: Callable[[], Done]) -> Future[Done]:
    """What `work` returns, from a thread of its own that ends with the process; for what may never return."""
    done: Future[Done] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, daemon=True).start()
    return done


@contextmanager
def side_by_side(threads: int) -> Iterator[None]:
    """`over_parts` has that many threads while the block lasts, and torch one: its own would wait for each other."""
    before = _COUNT.set(threads)
    try:
        with torch_threads(1):
            yield
    finally:
        _COUNT.reset(before)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch has `count` threads while the block lasts, and as many as before when the last block of any thread ends."""
    import torch

    with _LOCK:
        before = torch.get_num_threads()
        _ORIGINAL.append(_ORIGINAL[0] if _ORIGINAL else before)
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _LOCK:
            original = _ORIGINAL.pop()
            torch.set_num_threads(before if _ORIGINAL else original)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="dsgd")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of the threads
