"""A graph survives every file format; a broken or hostile file is one sentence with its name."""

import json
import pickle

import networkx as nx
import numpy as np
import pytest

from topologies import build_graph, graph_from_file, matrix_from_file


def write_links(graph, file):
    """Node-link data under the key "links", as networkx before 3.6 wrote it."""
    nodes = [{"id": node} for node in graph]
    links = [{"source": i, "target": j} for i, j in graph.edges]
    file.write_text(json.dumps({"directed": graph.is_directed(), "nodes": nodes, "links": links}))


def write_edges(graph, file):
    directed = {"directed": True} if graph.is_directed() else {}
    file.write_text(json.dumps({"n": len(graph), "edges": list(graph.edges), **directed}))


WRITERS = {
    "graphml": ("g.graphml", lambda graph, file: nx.write_graphml(graph, file)),
    "npy": ("g.npy", lambda graph, file: np.save(file, nx.to_numpy_array(graph, nodelist=sorted(graph)))),
    "node_link": ("g.json", lambda graph, file: file.write_text(json.dumps(nx.node_link_data(graph)))),
    "links": ("g.json", write_links),
    "edges": ("g.json", write_edges),
    "edgelist": ("g.edgelist", lambda graph, file: nx.write_edgelist(graph, file)),
}


@pytest.mark.parametrize(
    ("writer", "name"),
    [(writer, name) for writer in WRITERS for name in ("ring", "grid", "barbell")]
    + [(writer, "exponential") for writer in WRITERS if writer != "edgelist"],  # which cannot say that it is directed
)
def test_round_trip(tmp_path, writer, name):
    graph, (file, write) = build_graph(name, 12), WRITERS[writer]
    write(graph, tmp_path / file)
    read = graph_from_file(tmp_path / file)
    assert list(read) == list(range(12))
    assert nx.utils.graphs_equal(nx.DiGraph(read), nx.DiGraph(graph))
    assert read.is_directed() == graph.is_directed()


def test_comments_weights_self_loops_and_repeats_are_dropped(tmp_path):
    file = tmp_path / "g.edgelist"
    file.write_text("# a comment\n10 9 {'weight': 3}\n9 10\n\n9 9\n100 9  # hub\n")
    assert sorted(graph_from_file(file).edges) == [(0, 1), (0, 2)]


def test_names_are_sorted_as_numbers_or_as_text(tmp_path):
    file = tmp_path / "g.edgelist"
    file.write_text("b a\nb c\n")
    assert sorted(graph_from_file(file)[1]) == [0, 2]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    for name, content in (("g.edgelist", "0 1\n1 0\n"), ("g.json", '{"n": 2, "edges": [[0, 1]]}')):
        (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")
        assert sorted(graph_from_file(tmp_path / name).edges) == [(0, 1)]


def test_graphml_with_parallel_edges(tmp_path):
    nx.write_graphml(nx.MultiGraph([("a", "b"), ("a", "b"), ("b", "c")]), tmp_path / "g.graphml")
    assert sorted(graph_from_file(tmp_path / "g.graphml").edges) == [(0, 1), (1, 2)]


HOSTILE = {
    "empty.edgelist": (b"", "holds a graph of 0 nodes"),
    "short.edgelist": (b"0 1\n2\n", "line 2: expected an edge, two node names with a space"),
    "commas.edgelist": (b"0, 1\n1, 2\n", "line 1: expected an edge, .* no comma"),
    "binary.edgelist": (b"\xff\xfe\x00", "is not UTF-8 text"),
    "empty.graphml": (b"", "is not GraphML"),
    "html.graphml": (b"<html></html>", "is not GraphML"),
    "laughs.graphml": (
        b'<!DOCTYPE x [<!ENTITY a "%s">%s]><graphml>&k9;</graphml>'
        % (b"h" * 100, b"".join(b'<!ENTITY k%d "%s">' % (i, b"&k%d;" % (i - 1) * 20) for i in range(1, 10))),
        "is not GraphML",
    ),
    "empty.json": (b"", "is not JSON"),
    "list.json": (b"[1, 2]", "is not a graph: expected"),
    "weights.json": (b"[[0.5, 0.5], [0.5, 0.5]]", "is not a graph: .*; a mixing matrix goes to weights"),
    "number.json": (b"3", "is not a graph: expected"),
    "triple.json": (b'{"edges": [[0, 1, 2]]}', "is not a graph: expected"),
    "huge.json": (b'{"edges": [], "n": 1000000000000}', "is not a graph: expected"),
    "float.json": (b'{"edges": [[0.5, 1]]}', "is not a graph: expected"),
    "outside.json": (b'{"edges": [[0, 7]], "n": 3}', "an edge to a node that is not among its 3 nodes"),
    "negative.json": (b'{"edges": [[0, -1]], "n": 3}', "an edge to a node that is not among its 3 nodes"),
    "unnamed.json": (b'{"nodes": [{}], "links": []}', "is not a graph: expected"),
    "deep.json": (b"[" * 200_000, "is not JSON"),
    "digits.json": (b'{"n": ' + b"9" * 10_000 + b', "edges": []}', "is not JSON of a reasonable"),
    "junk.npy": (b"junk", r"is not a \.npy array"),
    "empty.npy": (b"", r"is not a \.npy array"),
    "pickle.npy": (pickle.dumps({"a": 1}), r"is not a \.npy array"),
    "graph.txt": (b"0 1", r"must end in one of \.edgelist, \.graphml, \.npy, \.json"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_bad_graph_file_is_one_sentence(tmp_path, name):
    content, sentence = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        graph_from_file(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\): expected a square matrix"),
        (np.ones(3), r"shape \(3,\): expected"),
        (np.zeros((0, 0)), r"shape \(0, 0\): expected"),
        (np.array([[0, np.nan], [1, 0]]), r"holds nan at \[0, 1\]"),
        (np.array([["a"]]), "array of <U1: expected real numbers"),
        (np.array([[1j]]), "array of complex128: expected real numbers"),
    ],
)
def test_a_bad_array_is_one_sentence(tmp_path, array, sentence):
    np.save(tmp_path / "g.npy", array)
    for read in (graph_from_file, matrix_from_file):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / "g.npy")


@pytest.mark.parametrize("entry", [0.5, 2, -1])
def test_weights_are_no_graph(tmp_path, entry):
    np.save(tmp_path / "g.npy", [[0, 1], [entry, 0]])
    with pytest.raises(
        ValueError, match=rf"g.npy holds {entry} at \[1, 0\]: .* only 0 and 1; a mixing matrix goes to w"
    ):
        graph_from_file(tmp_path / "g.npy")
    np.save(tmp_path / "g.npy", [[False, True], [True, False]])
    assert graph_from_file(tmp_path / "g.npy").number_of_edges() == 1


def test_nothing_is_unpickled(tmp_path):
    np.save(tmp_path / "g.npy", np.array([[print]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not a \.npy array of numbers"):
        matrix_from_file(tmp_path / "g.npy")


def test_a_header_that_promises_too_much_takes_no_memory(tmp_path):
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    with (tmp_path / "g.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"0" * 64)
    with pytest.raises(ValueError, match=r"g\.npy is not a \.npy array"):
        matrix_from_file(tmp_path / "g.npy")


def test_missing_directory_and_oversized_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none\.json"):
        graph_from_file(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ValueError, match=r"folder\.json is not a file"):
        graph_from_file(tmp_path / "folder.json")
    monkeypatch.setattr("topologies.files.MOST_BYTES", 2**20)
    (tmp_path / "big.json").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(ValueError, match=r"big\.json is larger than 1 MiB"):
        graph_from_file(tmp_path / "big.json")


def test_a_matrix_from_rows_or_an_array(tmp_path):
    (tmp_path / "w.json").write_text("[[0.5, 0.5], [0.5, 0.5]]")
    np.save(tmp_path / "w.npy", np.full((2, 2), 0.5, dtype=np.float32))
    for name in ("w.json", "w.npy"):
        W = matrix_from_file(tmp_path / name)
        assert W.dtype == np.float64
        np.testing.assert_array_equal(W.toarray(), 0.5)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[[0.5, 0.5], [1]]", "must hold a list of rows of numbers, all of one length"),
        ('[["a"]]', "must hold a list of rows of numbers"),
        ('{"a": 1}', "must hold a list of rows of numbers"),
        ("[[NaN]]", r"holds nan at \[0, 0\]"),
        ("[0.5]", r"shape \(1,\): expected a square matrix"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_matrix_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        matrix_from_file(tmp_path / "w.json")
    assert "w.json" in str(caught.value)


def test_a_matrix_has_its_own_formats(tmp_path):
    with pytest.raises(ValueError, match=r"must end in one of \.npy, \.json"):
        matrix_from_file(tmp_path / "w.edgelist")
