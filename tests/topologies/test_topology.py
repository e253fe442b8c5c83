"""A Topology is a small value: it hashes and pickles, refuses at once what is wrong, and builds each graph once."""

import json
import pickle

import networkx as nx
import numpy as np
import pytest

from topologies import Identity, KnobError, Mean, RandomMatching, Sparse, Topology, build_graph
from topologies.arguments import knob_of


def test_it_hashes_prints_and_pickles_without_its_matrix():
    topology = Topology("watts_strogatz", 64, knobs=(("p", 0.2), ("k", 6)), seed=3)
    topology.matrix()
    assert pickle.loads(pickle.dumps(topology)) == topology
    assert len(pickle.dumps(topology)) < 500
    assert topology == Topology("watts_strogatz", 64, knobs=(("k", 6), ("p", 0.2)), seed=3)
    assert hash(topology) == hash(Topology("watts_strogatz", 64, knobs=(("k", 6), ("p", 0.2)), seed=3))
    assert "knobs=(('k', 6), ('p', 0.2)), seed=3" in repr(topology)


def test_equal_values_share_one_matrix():
    assert Topology("ring", 12).matrix() is Topology("ring", 12).matrix()


def test_knobs_and_seed_reach_the_graph():
    graph = Topology("watts_strogatz", 20, knobs=(("k", 6),), seed=2).graph_object()
    assert nx.utils.graphs_equal(nx.Graph(graph), build_graph("watts_strogatz", 20, 2, k=6))


def test_the_shared_graph_is_frozen():
    with pytest.raises(nx.NetworkXError, match=r"[Ff]rozen"):
        Topology("ring", 5).graph_object().add_edge(0, 2)


@pytest.mark.parametrize(
    ("topology", "kind"),
    [
        (Topology("complete", 5), Mean),
        (Topology("complete", 5, "lazy"), Sparse),
        (Topology("ring", 3), Mean),
        (Topology("ring", 2), Mean),
        (Topology("ring", 4), Sparse),
        (Topology("star", 1), Identity),
        (Topology("complete", 1), Identity),
        (Topology("exponential", 3), Mean),
    ],
)
def test_the_matrix_is_of_the_smallest_kind(topology, kind):
    assert isinstance(topology.matrix(), kind)
    assert topology.matrix().shape == (topology.n, topology.n)


def test_the_complete_graph_of_many_nodes_is_never_built():
    topology = Topology("complete", 100_000)
    assert topology.matrix() == Mean(100_000)
    assert topology.edge_count() == 100_000 * 99_999 // 2
    assert Topology("complete", 6).edge_count() == Topology("complete", 6).graph_object().number_of_edges()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"graph": "rign", "n": 4}, r"unknown graph 'rign' \(did you mean 'ring'\?\)"),
        (
            {"graph": "ring", "n": 4, "weights": "metropolis"},
            r"unknown weights 'metropolis' \(did you mean 'metropolis",
        ),
        ({"graph": "ring", "n": 4, "knobs": (("p", 1),)}, "unknown ring knob 'p'"),
        ({"graph": "ring", "n": 0}, "ring cannot have n = 0 nodes"),
        ({"graph": "ring", "n": 4.0}, r"n must be a whole number, not 4\.0"),
        ({"graph": "ring", "n": 4, "seed": None}, "seed must be a whole number, not None"),
        ({"graph": "a.json", "n": 4, "knobs": (("p", 1),)}, "a graph file takes no knobs"),
    ],
)
def test_wrong_fields_are_refused_at_once(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Topology(**fields)


def test_an_impossible_n_is_refused_when_built():
    with pytest.raises(ValueError, match="the nearest possible n is 8 or 16"):
        Topology("hypercube", 12).matrix()


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.edgelist"
    file.write_text("0 1\n2 3\n3 4\n4 5\n5 6\n")
    return str(file)


def test_a_disconnected_graph_is_refused_with_its_components(pairs):
    with pytest.raises(
        ValueError, match=r"is disconnected.*components are \{0, 1\}, \{2, 3, 4, 5, \.\.\.\}; join them"
    ):
        Topology(pairs, 7).matrix()


def test_a_disconnected_graph_can_be_allowed(pairs):
    W = Topology(pairs, 7, allow_disconnected=True).matrix().toarray()
    assert not W[:2, 2:].any()
    np.testing.assert_allclose(W.sum(axis=0), 1)


def test_a_graph_without_edges_is_the_identity(tmp_path):
    (tmp_path / "none.json").write_text('{"n": 4, "edges": []}')
    assert Topology(str(tmp_path / "none.json"), 4, allow_disconnected=True).matrix() == Identity(4)


def test_n_must_be_that_of_the_file(pairs):
    with pytest.raises(ValueError, match="has 7 nodes, and n = 8: set n to 7"):
        Topology(pairs, 8).graph_object()
    assert Topology.from_file(pairs, allow_disconnected=True) == Topology(pairs, 7, allow_disconnected=True)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"no such file: nowhere\.edgelist"):
        Topology("nowhere.edgelist", 4).matrix()


def test_weights_from_a_file_are_checked_against_the_graph(tmp_path):
    ring = np.roll(np.eye(4), 1, axis=0) / 4 + np.roll(np.eye(4), -1, axis=0) / 4 + np.eye(4) / 2
    np.save(tmp_path / "ring.npy", ring)
    (tmp_path / "mean.json").write_text(json.dumps([[0.25] * 4] * 4))
    topology = Topology("ring", 4, str(tmp_path / "ring.npy"))
    np.testing.assert_array_equal(topology.matrix().toarray(), ring)
    assert topology.weights_used() == str(tmp_path / "ring.npy")
    assert Topology("complete", 4, str(tmp_path / "mean.json")).matrix() == Mean(4)
    with pytest.raises(ValueError, match=r"W\[0, 2\] is 0\.25, and the graph has no edge from 2 to 0"):
        Topology("ring", 4, str(tmp_path / "mean.json")).matrix()


def test_an_edited_graph_file_is_read_again(tmp_path):
    file = tmp_path / "g.edgelist"
    file.write_text("0 1\n1 2\n2 3\n")
    topology = Topology(str(file), 4)
    before, pairing = topology.matrix(), RandomMatching(topology)
    pairing(0)
    assert topology.matrix() is before
    file.write_text("0 1\n0 2\n0 3\n")  # as long as before: the clock alone tells
    assert topology.edge_count() == 3
    assert set(topology.graph_object()[0]) == {1, 2, 3}
    assert (topology.matrix().toarray() != before.toarray()).any()
    assert all(0 in np.flatnonzero(pairing(step).partner != np.arange(4)) for step in range(9))


def test_an_edited_matrix_file_is_read_again(tmp_path):
    file = tmp_path / "w.json"
    topology = Topology("complete", 2, str(file))
    for own in (0.25, 0.75):
        file.write_text(json.dumps([[own, 1 - own], [1 - own, own]]))
        assert topology.matrix().toarray()[0, 0] == own


def test_knobs_may_be_a_mapping():
    assert Topology("ring", 4, knobs={}) == Topology("ring", 4)
    assert Topology("erdos_renyi", 9, knobs={"p": 0.5}) == Topology("erdos_renyi", 9, knobs=(("p", 0.5),))


@pytest.mark.parametrize(
    ("knob", "fields"),
    [
        ("graph", {"graph": "rign", "n": 4}),
        ("graph", {"graph": "none.edgelist", "n": 4}),
        ("graph", {"graph": "cut.edgelist", "n": 4}),
        ("graph", {"graph": "erdos_renyi", "n": 9, "knobs": (("p", 0),)}),
        ("n", {"graph": "ring", "n": 0}),
        ("n", {"graph": "ring", "n": 2**21}),
        ("n", {"graph": "hypercube", "n": 12}),
        ("n", {"graph": "cut.edgelist", "n": 5}),
        ("p", {"graph": "ring", "n": 4, "knobs": (("p", 1),)}),
        ("p", {"graph": "erdos_renyi", "n": 9, "knobs": (("p", 2),)}),
        ("k", {"graph": "watts_strogatz", "n": 9, "knobs": (("k", 3),)}),
        ("seed", {"graph": "ring", "n": 4, "seed": 0.5}),
        ("weights", {"graph": "ring", "n": 4, "weights": "fast"}),
        ("weights", {"graph": "ring", "n": 4, "weights": "none.json"}),
        ("weights", {"graph": "ring", "n": 4, "weights": "sums.json"}),
        ("weights", {"graph": "star", "n": 4, "weights": "uniform"}),
        ("weights", {"graph": "exponential", "n": 4, "weights": "lazy"}),
        ("weights", {"graph": "ring", "n": 101, "weights": "fdla"}),
    ],
    ids=str,
)
def test_a_refusal_names_its_knob(tmp_path, monkeypatch, knob, fields):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.edgelist").write_text("0 1\n2 3\n")
    (tmp_path / "sums.json").write_text("[[2]]")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Topology(**fields).matrix()
    assert knob_of(caught.value) == knob


def test_a_refusal_travels_between_processes():
    error = pickle.loads(pickle.dumps(KnobError("n", "n must be a whole number, not 0.5")))
    assert (error.knob, str(error)) == ("n", "n must be a whole number, not 0.5")


def test_numbers_of_numpy_become_plain():
    topology = Topology("ring", np.int64(5), seed=np.int32(3))
    assert (type(topology.n), type(topology.seed)) == (int, int)
