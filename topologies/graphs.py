"""The communication graphs of decentralized learning, n nodes to a networkx graph with nodes 0..n-1 and no self-loops.

By networkx generators wherever they exist. `n` is always the number of nodes. An edge i -> j of a directed graph
means that i sends its model to j; an undirected edge carries models both ways.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import networkx as nx

from topologies.arguments import check_name, finite_number, whole_number
from topologies.random_graphs import erdos_renyi, random_geometric, random_regular, watts_strogatz
from topologies.sizes import check_edges, check_size, squarest_factors

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Knob = int | float


def ring(n: int) -> nx.Graph[int]:
    """Each node knows the next and the previous one; n = 2 is a single edge."""
    check_size("ring", n)
    graph: nx.Graph[int] = nx.cycle_graph(n) if n > 2 else nx.path_graph(n)
    return graph


def path(n: int) -> nx.Graph[int]:
    """A ring with one edge cut: the slowest connected graph to mix."""
    check_size("path", n)
    graph: nx.Graph[int] = nx.path_graph(n)
    return graph


def star(n: int) -> nx.Graph[int]:
    """Node 0 is the hub, the other n - 1 are leaves."""
    check_size("star", n)
    graph: nx.Graph[int] = nx.star_graph(n - 1)
    return graph


def complete(n: int) -> nx.Graph[int]:
    """Every node knows every other."""
    check_size("complete", n)
    check_edges("complete", n, n * (n - 1) / 2)
    graph: nx.Graph[int] = nx.complete_graph(n)
    return graph


def grid(n: int) -> nx.Graph[int]:
    """A rows x columns mesh without wrap-around, of the squarest factors of n; nodes are numbered row by row.

    A prime n above 3 has only the factors 1 x n, a path in disguise, and is refused.
    """
    check_size("grid", n, "n = rows * columns with at least 2 rows", lambda m: m <= 3 or squarest_factors(m)[0] > 1)
    return _numbered(nx.grid_2d_graph(*squarest_factors(n)))


def torus(n: int) -> nx.Graph[int]:
    """The grid with both sides wrapped around, so 4 neighbours each; both factors are at least 3."""
    check_size("torus", n, "n = rows * columns with both at least 3", lambda m: squarest_factors(m)[0] >= 3)
    return _numbered(nx.grid_2d_graph(*squarest_factors(n), periodic=True))


def hypercube(n: int) -> nx.Graph[int]:
    """Node i knows the log2(n) nodes whose numbers differ from i in one bit."""
    check_size("hypercube", n, "n to be a power of two, 2^d", lambda m: m & (m - 1) == 0)
    check_edges("hypercube", n, n * (n.bit_length() - 1) / 2)
    return _numbered(nx.hypercube_graph(n.bit_length() - 1)) if n > 1 else nx.empty_graph(1)


def binary_tree(n: int) -> nx.Graph[int]:
    """The heap-shaped tree: node i is the parent of 2i + 1 and 2i + 2."""
    check_size("binary_tree", n)
    return nx.full_rary_tree(2, n)


def exponential(n: int) -> nx.DiGraph[int]:
    """Node i hears from i + 1, i + 2, i + 4, ... (mod n), hops below n: a directed circulant of degree log2(n).

    With equal weights, W[i, i + 2^k] = 1 / (hops + 1) as in Ying et al. 2021, "Exponential graph is provably
    efficient for decentralized deep training", arXiv 2110.13363; `OnePeerExponential` uses the same edges one a step.
    """
    check_size("exponential", n)
    check_edges("exponential", n, n * len(_hops(n)))
    graph: nx.DiGraph[int] = nx.empty_graph(n, create_using=nx.DiGraph)
    graph.add_edges_from(((i + hop) % n, i) for hop in _hops(n) for i in range(n))
    return graph


def exponential_undirected(n: int) -> nx.Graph[int]:
    """Node i knows i ± 1, i ± 2, i ± 4, ... (mod n), hops below n: the exponential graph with messages both ways."""
    check_size("exponential_undirected", n)
    check_edges("exponential_undirected", n, n * len(_hops(n)))
    return nx.circulant_graph(n, _hops(n))


def barbell(n: int) -> nx.Graph[int]:
    """Two complete graphs of n/2 nodes joined by one edge: the tightest bottleneck."""
    check_size("barbell", n, "n to be even and at least 4", lambda m: m >= 4 and m % 2 == 0)
    check_edges("barbell", n, n * (n / 2 - 1) / 2 + 1)
    return nx.barbell_graph(n // 2, 0)


def _numbered(graph: nx.Graph[Hashable]) -> nx.Graph[int]:
    return nx.convert_node_labels_to_integers(graph, ordering="sorted")


def _hops(n: int) -> list[int]:
    return [2**k for k in range((n - 1).bit_length())]


GRAPHS: dict[str, Callable[..., nx.Graph[int]]] = {
    make.__name__: make
    for make in (
        ring,
        path,
        star,
        complete,
        grid,
        torus,
        hypercube,
        binary_tree,
        exponential,
        exponential_undirected,
        random_regular,
        erdos_renyi,
        watts_strogatz,
        random_geometric,
        barbell,
    )
}


def is_random(name: str) -> bool:
    """Whether the graph called `name` takes a seed."""
    return "seed" in inspect.signature(GRAPHS[name]).parameters


def knobs_of(name: str) -> dict[str, Knob | None]:
    """The knobs of the graph called `name` and their defaults; None means a default that depends on n.

    Raises a ValueError for an unknown name.
    """
    check_name("graph", name, GRAPHS)
    parameters = inspect.signature(GRAPHS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in ("n", "seed")}


def check_knobs(name: str, knobs: dict[str, Knob]) -> None:
    """Raise a ValueError for an unknown graph, a knob it does not have, or a value that is not a number of its kind."""
    defaults = knobs_of(name)
    for knob, value in knobs.items():
        check_name(f"{name} knob", knob, defaults, knob)
        if isinstance(defaults[knob], int):
            whole_number(knob, value)
        else:
            finite_number(knob, value)


def build_graph(name: str, n: int, seed: int = 0, **knobs: Knob) -> nx.Graph[int]:
    """The graph called `name` with `n` nodes; `seed` matters to random graphs only.

    Raises a ValueError for an unknown name, a wrong knob or an impossible n, with the nearest possible n named.
    """
    check_knobs(name, knobs)
    size, key = whole_number("n", n), whole_number("seed", seed)
    return GRAPHS[name](size, seed=key, **knobs) if is_random(name) else GRAPHS[name](size, **knobs)
