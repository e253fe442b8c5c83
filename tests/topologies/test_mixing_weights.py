"""Every rule in WEIGHTS on every graph it accepts: doubly stochastic, on the graph's edges, mixing."""

import importlib

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies import GRAPHS, WEIGHTS, Mean, Topology, build_graph, check_mixing_matrix, slem

SIZES = {"hypercube": 16, "barbell": 10, "torus": 12, "random_regular": 11}
OPTIMAL = {"fdla", "fmmc"}


def accepted(graph, rule):
    degrees = {d for _, d in graph.degree}
    return (rule not in OPTIMAL | {"metropolis_hastings", "max_degree", "lazy"} or not graph.is_directed()) and (
        rule != "uniform" or len(degrees) == 1
    )


CASES = [(g, r) for g in GRAPHS for r in WEIGHTS if accepted(build_graph(g, SIZES.get(g, 12)), r)]


def test_most_pairs_are_accepted():
    assert len(CASES) == 14 * 6 + 2 + 7  # undirected without uniform, the digraph's auto and uniform, regular graphs


@pytest.mark.parametrize(("name", "rule"), CASES)
def test_laws_of_a_mixing_matrix(name, rule):
    graph = build_graph(name, SIZES.get(name, 12))
    W = WEIGHTS[rule](graph)
    dense = W.toarray()
    hears = nx.to_numpy_array(graph).T
    assert W.dtype == np.float64
    assert W.format == "csr"
    np.testing.assert_allclose(dense.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(dense.sum(axis=1), 1, atol=1e-12)
    off_diagonal = (dense != 0) & ~np.eye(len(dense), dtype=bool)
    assert not (off_diagonal & (hears == 0)).any()
    if rule not in OPTIMAL:
        assert (off_diagonal == (hears == 1)).all()
    if rule != "fdla":
        assert dense.min() >= 0
    assert slem(W) < 1
    check_mixing_matrix(W, graph)


@given(n=st.integers(1, 25), p=st.floats(0.01, 1), seed=st.integers(0, 99), rule=st.sampled_from(sorted(WEIGHTS)))
@settings(max_examples=60, deadline=None)
def test_rules_hold_on_any_undirected_graph_connected_or_not(n, p, seed, rule):
    graph = nx.fast_gnp_random_graph(n, p, seed=seed)
    if rule in OPTIMAL or not accepted(graph, rule):
        rule = "metropolis_hastings"
    check_mixing_matrix(WEIGHTS[rule](graph), graph, allow_disconnected=True)


def test_metropolis_hastings_on_a_path():
    third = 1 / 3
    expected = [[2 * third, third, 0], [third, third, third], [0, third, 2 * third]]
    np.testing.assert_allclose(WEIGHTS["metropolis_hastings"](nx.path_graph(3)).toarray(), expected, atol=1e-15)


def test_max_degree_on_a_star():
    W = WEIGHTS["max_degree"](nx.star_graph(3)).toarray()
    np.testing.assert_allclose(W[0], [0.25] * 4)
    np.testing.assert_allclose(W[1], [0.25, 0.75, 0, 0])


def test_lazy_is_half_way_to_the_identity():
    graph = build_graph("grid", 9)
    expected = (np.eye(9) + WEIGHTS["metropolis_hastings"](graph).toarray()) / 2
    np.testing.assert_allclose(WEIGHTS["lazy"](graph).toarray(), expected, atol=1e-15)


def test_uniform_on_the_exponential_graph_hears_ahead():
    W = WEIGHTS["uniform"](build_graph("exponential", 16)).toarray()
    np.testing.assert_allclose(W[3, [3, 4, 5, 7, 11]], 0.2)
    assert np.count_nonzero(W) == 16 * 5


def test_an_edge_of_a_digraph_points_from_sender_to_hearer():
    W = WEIGHTS["uniform"](nx.DiGraph([(0, 1), (1, 2), (2, 0)])).toarray()
    np.testing.assert_allclose(W, [[0.5, 0, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5]])


def test_auto_is_metropolis_hastings_or_uniform():
    ring, exponential = build_graph("ring", 8), build_graph("exponential", 8)
    assert (WEIGHTS["auto"](ring) != WEIGHTS["metropolis_hastings"](ring)).nnz == 0
    assert (WEIGHTS["auto"](exponential) != WEIGHTS["uniform"](exponential)).nnz == 0
    assert Topology("ring", 8).weights_used() == "metropolis_hastings"
    assert Topology("exponential", 8).weights_used() == "uniform"


@pytest.mark.parametrize("rule", ["metropolis_hastings", "max_degree", "lazy", "fdla", "fmmc"])
def test_undirected_rules_refuse_digraphs(rule):
    with pytest.raises(ValueError, match=f"{rule} weights need an undirected graph, and this one is directed"):
        WEIGHTS[rule](build_graph("exponential", 8))


def test_uniform_refuses_an_irregular_graph():
    with pytest.raises(ValueError, match="degrees equal, and here they run from 1 to 4: use metropolis_hastings"):
        WEIGHTS["uniform"](build_graph("star", 5))
    with pytest.raises(ValueError, match="run from 0 to 1: it cannot be made doubly stochastic"):
        WEIGHTS["auto"](nx.DiGraph([(0, 1)]))


@pytest.mark.parametrize("name", ["path", "star", "grid", "barbell", "binary_tree", "ring"])
def test_optimal_weights_are_no_slower(name):
    graph = build_graph(name, 10)
    plain = slem(WEIGHTS["metropolis_hastings"](graph))
    fastest, chain = slem(WEIGHTS["fdla"](graph)), slem(WEIGHTS["fmmc"](graph))
    assert fastest <= chain + 1e-6
    assert chain <= plain + 1e-6


def test_fastest_weights_of_a_star():
    # Xiao and Boyd 2004: the best constant edge weight 2 / (lambda_1 + lambda_{n-1}) of L, which has 1 and n.
    assert slem(WEIGHTS["fdla"](build_graph("star", 9))) == pytest.approx(8 / 10, abs=1e-6)


def test_fastest_weights_of_a_path_of_three_are_known():
    # One weight w: W - J has eigenvalues 1 - w and 1 - 3w, equal in modulus at w = 1/2.
    W = WEIGHTS["fdla"](nx.path_graph(3)).toarray()
    np.testing.assert_allclose(W, [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], atol=1e-5)


def test_optimal_weights_have_a_limit():
    with pytest.raises(ValueError, match="at most 100 nodes, and n = 101: use auto"):
        WEIGHTS["fdla"](build_graph("ring", 101))


def test_optimal_weights_without_cvxpy_name_the_extra(monkeypatch):
    real = importlib.import_module

    def missing(name, *rest):
        if name == "cvxpy":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("topologies.optimal_weights.import_module", missing)
    with pytest.raises(ValueError, match=r'need cvxpy: pip install "dsgd\[topology\]", or -e "\.\[topology\]" from'):
        WEIGHTS["fmmc"](build_graph("ring", 5))


def test_nodes_must_be_numbered():
    with pytest.raises(ValueError, match=r"must be 0\.\.n-1.*convert_node_labels_to_integers"):
        WEIGHTS["auto"](nx.Graph([("a", "b")]))


def test_self_loops_and_parallel_edges_do_not_count():
    clean, messy = nx.path_graph(3), nx.MultiGraph([(0, 1), (0, 1), (1, 2), (2, 2)])
    difference = WEIGHTS["auto"](clean) - WEIGHTS["auto"](messy)
    assert abs(difference).max() == 0


@pytest.mark.parametrize("rule", sorted(set(WEIGHTS) - {"lazy"}))
def test_every_other_rule_is_the_mean_on_the_complete_graph(rule):
    np.testing.assert_allclose(WEIGHTS[rule](build_graph("complete", 6)).toarray(), 1 / 6, atol=1e-6)
    assert Topology("complete", 6, rule).matrix() == Mean(6)


def test_a_fastest_chain_has_no_negative_entry_where_the_solver_oversteps():
    W = WEIGHTS["fmmc"](nx.complete_bipartite_graph(2, 5)).toarray()
    assert W.min() >= -1e-15
    assert slem(W) == pytest.approx(0.6, abs=1e-6)


def test_a_solver_that_fails_is_told(monkeypatch):
    cvxpy = pytest.importorskip("cvxpy")

    def failing(*arguments, **options):
        raise cvxpy.SolverError("no luck")

    monkeypatch.setattr(cvxpy.Problem, "solve", failing)
    with pytest.raises(ValueError, match=r"the solver found no optimal weights \(it failed\): use weights = 'auto'"):
        WEIGHTS["fdla"](build_graph("path", 4))
