"""Every graph in GRAPHS: n nodes named 0..n-1, connected, no self-loops; an impossible n names the nearest possible."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies import GRAPHS, KnobError, build_graph, knobs_of

RANDOM = ["random_regular", "erdos_renyi", "watts_strogatz", "random_geometric"]


@pytest.mark.parametrize("name", GRAPHS)
@given(n=st.integers(-2, 40), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_graph_has_n_nodes_or_names_an_n_that_it_can_have(name, n, seed):
    try:
        graph = build_graph(name, n, seed)
    except ValueError as error:
        sentence = str(error)
        assert f"{name} cannot have n = {n} nodes: it needs " in sentence
        assert "\n" not in sentence
        for nearest in sentence.rsplit("the nearest possible n is ", 1)[1].split(" or "):
            assert build_graph(name, int(nearest), seed).number_of_nodes() == int(nearest)
        return
    assert sorted(graph) == list(range(n))
    assert nx.number_of_selfloops(graph) == 0
    assert nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)


@pytest.mark.parametrize(
    ("name", "n", "nearest"),
    [
        ("hypercube", 12, "8 or 16"),
        ("hypercube", 10, "8"),
        ("grid", 7, "6 or 8"),
        ("torus", 11, "12"),
        ("torus", 4, "9"),
        ("barbell", 7, "6 or 8"),
        ("barbell", 2, "4"),
        ("random_regular", 4, "5"),
        ("watts_strogatz", 2, "5"),
        ("ring", 0, "1"),
        ("star", -3, "1"),
    ],
)
def test_the_nearest_possible_n(name, n, nearest):
    with pytest.raises(ValueError, match=rf"n = {n} nodes: .*; the nearest possible n is {nearest}$"):
        build_graph(name, n)


def test_odd_degree_on_an_odd_number_of_nodes():
    with pytest.raises(ValueError, match=r"degree = 3 with n \* degree even; the nearest possible n is 6 or 8$"):
        build_graph("random_regular", 7, degree=3)


@pytest.mark.parametrize(
    "name", ["ring", "path", "star", "complete", "grid", "hypercube", "binary_tree", "exponential", "erdos_renyi"]
)
def test_one_node_has_no_edges(name):
    assert build_graph(name, 1).number_of_edges() == 0


@pytest.mark.parametrize(
    ("name", "n", "edges"),
    [
        ("ring", 2, 1),
        ("ring", 3, 3),
        ("path", 7, 6),
        ("star", 9, 8),
        ("complete", 6, 15),
        ("grid", 16, 24),
        ("grid", 12, 17),
        ("torus", 16, 32),
        ("hypercube", 32, 80),
        ("binary_tree", 10, 9),
        ("exponential", 16, 64),
        ("exponential_undirected", 16, 56),
        ("barbell", 8, 13),
        ("random_regular", 10, 20),
        ("watts_strogatz", 10, 20),
    ],
)
def test_number_of_edges(name, n, edges):
    assert build_graph(name, n).number_of_edges() == edges


def test_star_has_its_hub_at_node_0():
    assert [degree for _, degree in build_graph("star", 9).degree] == [8] + [1] * 8


def test_grid_is_numbered_row_by_row():
    assert sorted(build_graph("grid", 12)[5]) == [1, 4, 6, 9]


def test_binary_tree_is_a_heap():
    assert sorted(build_graph("binary_tree", 10)[1]) == [0, 3, 4]


def test_hypercube_neighbours_differ_in_one_bit():
    assert all((i ^ j).bit_count() == 1 for i, j in build_graph("hypercube", 32).edges)


def test_exponential_hears_from_hops_of_powers_of_two():
    graph = build_graph("exponential", 16)
    assert graph.is_directed()
    assert sorted(graph.predecessors(0)) == [1, 2, 4, 8]
    assert sorted(graph.predecessors(15)) == [0, 1, 3, 7]


def test_random_regular_is_regular_even_when_dense():
    graph = build_graph("random_regular", 20, seed=1, degree=17)
    assert {degree for _, degree in graph.degree} == {17}


@pytest.mark.parametrize("name", RANDOM)
def test_the_recorded_seed_gives_the_same_graph_at_once(name):
    graph = build_graph(name, 30, seed=3)
    again = build_graph(name, 30, seed=graph.graph["seed"])
    assert again.graph["seed"] == graph.graph["seed"]
    assert nx.utils.graphs_equal(graph, again)
    assert set(graph.edges) != set(build_graph(name, 30, seed=4).edges)


def test_a_disconnected_draw_is_followed_by_keyed_seeds():
    first = nx.fast_gnp_random_graph(20, 0.1, seed=0)
    assert not nx.is_connected(first)
    graph = build_graph("erdos_renyi", 20, seed=0, p=0.1)
    assert nx.is_connected(graph)
    assert graph.graph["seed"] != 0


def test_no_connected_draw_says_what_to_change():
    with pytest.raises(ValueError, match=r"^erdos_renyi gave no connected graph in 101 draws from seed = 5: raise p$"):
        build_graph("erdos_renyi", 40, seed=5, p=0.01)


@pytest.mark.parametrize(
    ("arguments", "knobs", "sentence"),
    [
        (("rign", 4), {}, r"unknown graph 'rign' \(did you mean 'ring'\?\); allowed: ring, path"),
        (("ring", 4), {"p": 0.5}, "unknown ring knob 'p'; allowed: none"),
        (("random_regular", 8), {"degre": 3}, r"'degre' \(did you mean 'degree'\?\)"),
        (("random_regular", 8), {"degree": 3.0}, "degree must be a whole number, not 3.0"),
        (("random_regular", 8), {"degree": 1}, "degree must be a whole number of at least 2, not 1"),
        (("watts_strogatz", 8), {"k": 3}, "k must be even.*not 3; try k = 2 or k = 4"),
        (("watts_strogatz", 8), {"p": 1.5}, "p must be a probability between 0 and 1, not 1.5"),
        (("erdos_renyi", 8), {"p": float("nan")}, "p must be a finite number, not nan"),
        (("erdos_renyi", 8), {"p": "a"}, "p must be a number, not 'a'"),
        (("random_geometric", 8), {"radius": -1}, "radius must be at least 0"),
        (("ring", 2.5), {}, "n must be a whole number, not 2.5"),
        (("ring", True), {}, "n must be a whole number, not True"),
        (("ring", "5"), {}, "n must be a whole number, not '5'"),
        (("ring", 10**12), {}, "n = 1000000000000 is more nodes than this package builds"),
        (("erdos_renyi", 8, 0.5), {}, "seed must be a whole number, not 0.5"),
    ],
)
def test_wrong_arguments_are_named(arguments, knobs, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_graph(*arguments, **knobs)


def test_a_vanishing_probability_is_no_edge():
    assert build_graph("erdos_renyi", 1, p=1e-300).number_of_nodes() == 1
    with pytest.raises(ValueError, match="raise p"):
        build_graph("erdos_renyi", 2, p=1e-300)


def test_knobs_are_listed_with_their_defaults():
    assert knobs_of("ring") == {}
    assert knobs_of("watts_strogatz") == {"k": 4, "p": 0.1}
    assert knobs_of("erdos_renyi") == {"p": None}


def test_numpy_integers_are_numbers():
    assert build_graph("ring", np.int64(5)).number_of_nodes() == 5


def test_a_knob_that_leaves_no_size_is_refused_at_once():
    with pytest.raises(ValueError, match=r"it needs n above k = 1000000000; no n up to 1048576 is possible"):
        build_graph("watts_strogatz", 16, k=10**9)


def test_a_number_beyond_floats_is_refused():
    with pytest.raises(ValueError, match="p must be a finite number"):
        build_graph("erdos_renyi", 16, p=10**400)


@pytest.mark.parametrize(
    ("name", "n", "knobs"),
    [
        ("complete", 10_000, {}),
        ("barbell", 10_000, {}),
        ("hypercube", 2**20, {}),
        ("exponential", 2**20, {}),
        ("exponential_undirected", 2**20, {}),
        ("erdos_renyi", 10_000, {"p": 0.5}),
        ("random_regular", 10_000, {"degree": 5000}),
        ("watts_strogatz", 10_000, {"k": 5000}),
        ("random_geometric", 10_000, {"radius": 2.0}),
    ],
)
def test_more_edges_than_can_be_built_are_refused_before_any_is(name, n, knobs, monkeypatch):
    monkeypatch.setattr(nx.Graph, "add_edges_from", None)
    with pytest.raises(KnobError, match=rf"{name} has about [\d,]+ edges at n = {n}, .* the most are 4,194,304"):
        build_graph(name, n, 0, **knobs)


def test_a_large_graph_is_drawn_fewer_times(monkeypatch):
    drawn = []
    monkeypatch.setattr(nx, "fast_gnp_random_graph", lambda n, p, seed: drawn.append(seed) or nx.empty_graph(n))
    with pytest.raises(KnobError, match="no connected graph in 42 draws"):
        build_graph("erdos_renyi", 100_000, 0, p=1e-9)
    assert len(drawn) == 42
