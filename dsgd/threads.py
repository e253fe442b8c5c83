"""Independent parts of one computation side by side in threads: torch and compiled loops let go of Python meanwhile.

Rows of an ensemble need nothing of each other, so a thread a block of rows keeps every core busy where torch's own
threads, which share out one operation at a time, wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise


def over_parts(work: Callable[[int, int], None], size: int) -> None:
    """Calls work(start, stop) on as many ranges as torch has threads, which make up range(size), one thread in each."""
    import torch

    count = min(torch.get_num_threads(), size)
    if count <= 1:
        work(0, size)
        return
    edges = [size * k // count for k in range(count + 1)]
    with torch_threads(1):
        for done in [_pool(count).submit(work, *ends) for ends in pairwise(edges)]:
            done.result()


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
