"""Independent parts of one computation side by side in threads: torch and compiled loops let go of Python meanwhile.

Rows of an ensemble need nothing of each other, so a thread a block of rows keeps every core busy where torch's own
threads, which share out one operation at a time, wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import pairwise

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
    """Torch has `count` threads while the block lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="dsgd")
