"""Beyond dense work: the second eigenvalue against closed forms and against LAPACK, and what it costs.

Cost is counted in products with W and sparse factorisations, never in seconds: a busy machine changes those.
"""

import math

import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array, eye_array

from topologies import (
    WEIGHTS,
    Permutation,
    RandomMatching,
    Topology,
    build_graph,
    eigenvalues,
    facts,
    slem,
    spectral_gap,
)
from topologies.eigenvalues import dense_slem, most_negative_eigenvalue, sparse_slem


def ring_gap(n):
    """(4/3) sin^2(pi / n) = 1 - (1 + 2 cos(2 pi / n)) / 3, without the cancellation."""
    return 4 / 3 * math.sin(math.pi / n) ** 2


@pytest.fixture
def cost(monkeypatch):
    """Counts what the eigensolver does: applications of its operators, and sparse LU factorisations."""
    counted = {"applications": 0, "factorisations": 0}
    dominant, factorised = eigenvalues._dominant, eigenvalues._factorised

    def counting_dominant(operator, n, tolerance):
        def applied(x):
            counted["applications"] += 1
            return operator(x)

        return dominant(applied, n, tolerance)

    def counting_factorised(matrix, first):
        counted["factorisations"] += 1
        return factorised(matrix, first)

    monkeypatch.setattr(eigenvalues, "_dominant", counting_dominant)
    monkeypatch.setattr(eigenvalues, "_factorised", counting_factorised)
    return counted


def test_a_ring_of_100_000_takes_one_sparse_factorisation(cost):
    described = facts(Topology("ring", 100_000))
    assert cost["factorisations"] == 1
    assert cost["applications"] < 200
    assert described["spectral_gap"] == pytest.approx(ring_gap(100_000), rel=1e-6)
    assert described["edges"] == 100_000
    assert described["effective_neighbours"] is None
    assert described["stationary_consensus"] == {"consensus": None, "adapt_then_combine": None}


@pytest.mark.parametrize(
    ("graph", "n", "gap"),
    [
        ("ring", 3001, ring_gap(3001)),
        ("path", 20_000, ring_gap(40_000)),
        ("star", 5000, 1 / 5000),
        ("torus", 10_000, 0.8 * math.sin(math.pi / 100) ** 2),
        ("hypercube", 2**12, 2 / 13),
        ("exponential", 10_000, 2 / 15),
    ],
)
def test_gap_in_closed_form(graph, n, gap):
    assert spectral_gap(Topology(graph, n).matrix()) == pytest.approx(gap, rel=1e-6)


@pytest.mark.parametrize(
    "graph",
    [
        "ring",
        "grid",
        "binary_tree",
        "star",
        "barbell",
        "random_regular",
        "erdos_renyi",
        "watts_strogatz",
        "random_geometric",
    ],
)
def test_sparse_and_dense_agree(graph):
    W = WEIGHTS["auto"](build_graph(graph, 700, seed=5))
    assert sparse_slem(W) == pytest.approx(dense_slem(W.toarray()), abs=1e-11)


def test_sparse_and_dense_agree_on_directed_graphs():
    circulant = WEIGHTS["auto"](build_graph("exponential", 700))
    assert sparse_slem(circulant) == pytest.approx(dense_slem(circulant.toarray()), abs=1e-11)
    rng = np.random.default_rng(0)
    mixed = sum(Permutation(rng.permutation(700)).sparse() for _ in range(3)) / 3
    assert sparse_slem(csr_array(mixed)) == pytest.approx(dense_slem(mixed.toarray()), abs=1e-9)


def test_two_expanders_joined_by_one_edge():
    """A wide gap at first sight, with one slow mode hidden in it."""
    halves = [nx.random_regular_graph(4, 600, seed=seed) for seed in (1, 2)]
    graph = nx.disjoint_union(*halves)
    graph.add_edge(0, 600)
    W = WEIGHTS["auto"](graph)
    gap = spectral_gap(W)
    assert gap < 1e-3
    assert gap == pytest.approx(1 - dense_slem(W.toarray()), rel=1e-9)


def test_the_negative_end_of_the_spectrum_counts():
    """A ring with little weight on oneself: the eigenvalue nearest -1 is the slow one."""
    n, own = 1001, 1e-7
    neighbours = (WEIGHTS["auto"](build_graph("ring", n)) * 3 - eye_array(n)) / 2
    W = csr_array((1 - own) * neighbours + own * eye_array(n))
    slowest = own + (1 - own) * math.cos(math.pi * (n - 1) / n)
    assert most_negative_eigenvalue(W) == pytest.approx(slowest, abs=1e-12)
    assert slem(W) == pytest.approx(-slowest, abs=1e-12)


def test_a_large_bipartite_ring_without_self_weights_never_mixes():
    neighbours = (WEIGHTS["auto"](build_graph("ring", 1000)) * 3 - eye_array(1000)) / 2
    neighbours.eliminate_zeros()
    assert slem(neighbours) == 1


def test_an_expander_of_20_000_nodes_is_never_factorised(cost):
    """Its LU would fill in: the cost that a fallback to shift-invert would hide."""
    gap = spectral_gap(Topology("random_regular", 20_000).matrix())
    assert cost["factorisations"] == 0
    assert cost["applications"] < 1500
    bulk_edge = (1 + 2 * math.sqrt(3)) / 5  # Friedman: a random 4-regular graph is almost Ramanujan
    assert 1 - gap == pytest.approx(bulk_edge, abs=5e-3)


def test_a_large_disconnected_graph_has_no_gap():
    assert slem(WEIGHTS["auto"](nx.disjoint_union(nx.cycle_graph(800), nx.cycle_graph(900)))) == 1


def test_matchings_of_large_graphs():
    for topology in (Topology("ring", 50_000), Topology("complete", 100_000)):
        assert RandomMatching(topology)(3).messages > 0.8 * topology.n


def circulant(n, weights):
    """W[i, i + k mod n] = weights[k], and its eigenvalues sum_k weights[k] e^(2 pi i j k / n)."""
    rows = np.arange(n)
    W = sum(csr_array((np.full(n, w), (rows, (rows + k) % n)), shape=(n, n)) for k, w in weights.items())
    return csr_array(W), sum(w * np.exp(2j * np.pi * rows * k / n) for k, w in weights.items())


def test_negative_weights_may_reach_below_the_diagonal():
    W, eigenvalues = circulant(3001, {0: 0.1, 1: 0.5, -1: 0.5, 2: -0.05, -2: -0.05})
    assert slem(W) == pytest.approx(np.abs(eigenvalues[1:]).max(), abs=1e-12)


def test_a_large_cycle_of_shifts_never_mixes():
    assert slem(circulant(1000, {1: 1.0})[0]) == 1


def test_what_is_not_found_of_a_large_skewed_digraph_is_none(tmp_path):
    n = 700
    swapped = np.arange(n)
    swapped[:-1:7], swapped[1::7] = swapped[1::7].copy(), swapped[:-1:7].copy()
    W = circulant(n, {0: 0.3, 1: 0.5})[0] + csr_array((np.full(n, 0.2), (np.arange(n), swapped)), shape=(n, n))
    np.save(tmp_path / "w.npy", W.toarray())
    np.save(tmp_path / "g.npy", W.toarray().T != 0)
    described = facts(Topology(str(tmp_path / "g.npy"), n, str(tmp_path / "w.npy")))
    assert (described["n"], described["edges"]) == (n, n + n // 7)
    assert [described[name] for name in ("spectral_gap", "slem", "mixing_time")] == [None] * 3
    with pytest.raises(ValueError, match="the second eigenvalue of this directed W of n = 700 was not found"):
        slem(W)
