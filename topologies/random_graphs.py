"""Random graphs, drawn until connected: the given seed first, then up to 100 seeds keyed by it, fewer of large ones.

The seed that gave the graph is recorded as `graph.graph["seed"]`; given back, it gives the same graph at once.
"""

from __future__ import annotations

from math import log, pi, sqrt
from typing import TYPE_CHECKING

import networkx as nx

from topologies.arguments import KnobError, finite_number, whole_number
from topologies.randomness import stream_key
from topologies.sizes import MAX_EDGES, check_edges, check_size

if TYPE_CHECKING:
    from collections.abc import Callable

RETRIES = 100
MOST_DRAWN = MAX_EDGES  # nodes and edges, in all draws of one graph but the first


def random_regular(n: int, *, degree: int = 4, seed: int = 0) -> nx.Graph[int]:
    """Every node has `degree` neighbours, otherwise uniformly at random; n * degree must be even."""
    whole_number("degree", degree, least=2)
    needs = f"n above degree = {degree} with n * degree even"
    check_size("random_regular", n, needs, lambda m: m > degree and m * degree % 2 == 0)
    edges = n * min(degree, n - 1 - degree) / 2  # of what is drawn
    check_edges("random_regular", n, n * degree / 2, "n or degree")
    # The pairing model almost never succeeds near the complete graph, so a dense graph is drawn as a complement.
    if 2 * degree >= n:
        return connected(
            "random_regular", seed, "raise degree", lambda s: nx.complement(_regular(n, n - 1 - degree, s)), n + edges
        )
    return connected("random_regular", seed, "raise degree", lambda s: _regular(n, degree, s), n + edges)


def _regular(n: int, degree: int, seed: int) -> nx.Graph[int]:
    graph: nx.Graph[int] = nx.empty_graph(n)  # networkx leaves the nodes in the order of the edges drawn
    graph.add_edges_from(nx.random_regular_graph(degree, n, seed=seed).edges)
    return graph


def erdos_renyi(n: int, *, p: float | None = None, seed: int = 0) -> nx.Graph[int]:
    """Each pair is an edge with probability `p`, by default 2 ln(n) / n: twice the connectivity threshold."""
    check_size("erdos_renyi", n)
    chance = min(1.0, 2 * log(n) / n) if p is None else probability("p", p)
    chance = chance if chance > 1e-15 else 0.0  # networkx divides by log(1 - p), which rounds to 0 below
    edges = chance * n * (n - 1) / 2
    check_edges("erdos_renyi", n, edges, "n or p")
    return connected("erdos_renyi", seed, "raise p", lambda s: nx.fast_gnp_random_graph(n, chance, seed=s), n + edges)


def watts_strogatz(n: int, *, k: int = 4, p: float = 0.1, seed: int = 0) -> nx.Graph[int]:
    """A ring where each node knows its `k` nearest, every edge then rewired with probability `p` (small world)."""
    if whole_number("k", k, least=2) % 2:
        raise KnobError("k", f"k must be even, k/2 neighbours on either side, not {k}; try k = {k - 1} or k = {k + 1}")
    check_size("watts_strogatz", n, f"n above k = {k}", lambda m: m > k)
    check_edges("watts_strogatz", n, n * k / 2, "n or k")
    chance = probability("p", p)
    return connected(
        "watts_strogatz",
        seed,
        "raise k or lower p",
        lambda s: nx.watts_strogatz_graph(n, k, chance, seed=s),
        n + n * k / 2,
    )


def random_geometric(n: int, *, radius: float | None = None, seed: int = 0) -> nx.Graph[int]:
    """Points in the unit square, an edge where two are within `radius`; node attribute `pos` holds the point.

    The default radius is sqrt(2 ln(n) / (pi n)), a mean degree of about 2 ln(n).
    """
    check_size("random_geometric", n)
    reach = sqrt(2 * log(n) / (pi * n)) if radius is None else finite_number("radius", radius)
    if reach < 0:
        raise KnobError("radius", f"radius must be at least 0, a distance in the unit square, not {radius!r}")
    edges = min(1.0, pi * reach * reach) * n * (n - 1) / 2
    check_edges("random_geometric", n, edges, "n or radius")
    return connected(
        "random_geometric", seed, "raise radius", lambda s: nx.random_geometric_graph(n, reach, seed=s), n + edges
    )


def connected(
    name: str, seed: int, advice: str, draw: Callable[[int], nx.Graph[int]], size: float = 1.0
) -> nx.Graph[int]:
    """The first connected graph among `draw(seed)` and RETRIES keyed draws; a KnobError of `graph` gives `advice`.

    With a `size`, its nodes and edges, fewer draws of what is large.
    """
    whole_number("seed", seed)
    draws = 1 + min(RETRIES, int(MOST_DRAWN // size))
    for attempt in range(draws):
        tried = seed if attempt == 0 else stream_key(seed, name, attempt) % 2**32
        graph = draw(tried)
        if nx.is_connected(graph):
            graph.graph["seed"] = tried
            return graph
    raise KnobError("graph", f"{name} gave no connected graph in {draws} draws from seed = {seed}: {advice}")


def probability(what: str, value: float) -> float:
    """`value` as a float; a KnobError of `what` unless it lies in [0, 1]."""
    number = finite_number(what, value)
    if not 0 <= number <= 1:
        raise KnobError(what, f"{what} must be a probability between 0 and 1, not {value!r}")
    return number
