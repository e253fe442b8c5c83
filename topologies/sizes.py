"""Which numbers of nodes a graph family has: an impossible n is refused and the nearest possible one named."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from topologies.arguments import KnobError, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NODES = 2**20
MAX_EDGES = 2**22


def check_size(
    graph: str, n: int, needs: str = "n at least 1", possible: Callable[[int], bool] = lambda n: True
) -> None:
    """Raise a KnobError naming the nearest possible n, unless 1 <= n <= MAX_NODES and `possible(n)`.

    `needs` completes the sentence "it needs ...".
    """
    if 1 <= whole_number("n", n) <= MAX_NODES and possible(n):
        return
    if n > MAX_NODES:
        raise KnobError("n", f"n = {n} is more nodes than this package builds; the largest n is {MAX_NODES}")
    found = " or ".join(map(str, nearest_sizes(n, possible)))
    nearest = f"the nearest possible n is {found}" if found else f"no n up to {MAX_NODES} is possible"
    raise KnobError("n", f"{graph} cannot have n = {n} nodes: it needs {needs}; {nearest}")


def check_edges(graph: str, n: int, edges: float, smaller: str = "n") -> None:
    """Raise a KnobError of `n`, before any is built, where there are too many edges; `smaller` is what makes fewer."""
    if edges > MAX_EDGES:
        raise KnobError(
            "n",
            f"{graph} has about {edges:,.0f} edges at n = {n}, more than this package builds; the most are "
            f"{MAX_EDGES:,}, so take a smaller {smaller}",
        )


def nearest_sizes(n: int, possible: Callable[[int], bool]) -> list[int]:
    """The one or two possible numbers of nodes closest to `n`, smallest first; none if all lie above MAX_NODES."""
    start = max(n, 0)
    rings = ({start - distance, start + distance} for distance in range(MAX_NODES + 1))
    found = ([m for m in sorted(ring) if 1 <= m <= MAX_NODES and possible(m)] for ring in rings)
    return next(filter(None, found), [])


def squarest_factors(n: int) -> tuple[int, int]:
    """The factors rows <= columns of `n` that are closest to each other: 12 -> (3, 4), 16 -> (4, 4)."""
    rows = next(rows for rows in range(isqrt(n), 0, -1) if n % rows == 0)
    return rows, n // rows
