"""Graph and matrix files that lie: a graph that mixes, or one sentence."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from random import Random

import networkx as nx
import numpy as np
import pytest
from damage import DAMAGES, garbled
from guarded import answered

import topologies

GARBLED = 200  # of each kind

RING = nx.cycle_graph(5)


def array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


GRAPHS = {
    "g.edgelist": "\n".join(nx.generate_edgelist(RING)).encode(),
    "g.graphml": "\n".join(nx.generate_graphml(RING)).encode(),
    "g.npy": array(nx.to_numpy_array(RING)),
    "g.json": json.dumps({"n": 5, "edges": [[0, 1], [1, 2], [2, 3], [3, 4], [4, 0]]}).encode(),
    "nodes.json": json.dumps(nx.node_link_data(RING, edges="edges")).encode(),
}
W = (nx.to_numpy_array(RING) + np.eye(5)) / 3
MATRICES = {"w.npy": array(W), "w.json": json.dumps(W.tolist()).encode()}
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY a "'
    + "a" * 1000
    + '">'
    + "".join(f'<!ENTITY {now} "{f"&{before};" * 100}">' for before, now in ("ab", "bc", "cd", "de"))
    + ']><graphml><graph edgedefault="undirected"><node id="&e;"/></graph></graphml>'
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY a SYSTEM "{}">]>'
    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph edgedefault="undirected">'
    '<node id="&a;"/><node id="b"/><edge source="&a;" target="b"/></graph></graphml>'
)


def topology(path: Path) -> str:
    """What becomes of a graph's file: mixed, or refused in a sentence."""
    try:
        topologies.Topology.from_file(path).matrix()
    except (ValueError, FileNotFoundError) as error:
        return said(error)
    return "mixed"


def mixed_by(path: Path) -> str:
    """What becomes of a matrix file on the ring of five."""
    try:
        topologies.Topology("ring", 5, weights=str(path)).matrix()
    except (ValueError, FileNotFoundError) as error:
        return said(error)
    return "mixed"


def said(error: Exception) -> str:
    sentence = str(error)
    assert sentence
    assert len(sentence) < 1000
    assert "\n" not in sentence
    return "refused"


@pytest.mark.parametrize("name", [*GRAPHS, *MATRICES])
def test_garbled_files_mix_or_are_one_sentence(tmp_path: Path, name: str) -> None:
    content, became = (GRAPHS | MATRICES)[name], []
    path = tmp_path / name
    for number in range(GARBLED):
        path.write_bytes(garbled(content, Random(f"{name} {number}")))
        try:
            became.append((topology if name in GRAPHS else mixed_by)(path))
        except BaseException:
            print(f"{name} {number}: {path.read_bytes()[:500]!r}")
            raise
    assert {"refused"} <= set(became) <= {"mixed", "refused"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["g.edgelist", "g.graphml", "g.npy", "g.json", "w.npy", "w.json"])
def test_damaged_files_are_told_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes((GRAPHS | MATRICES)[name])
    DAMAGES[damage](Path(name))
    words = [name] if name in GRAPHS else ["ring", "-n", "5", "--weights", name]
    answer = answered(["topology", "show", *words, "--json"])
    assert answer.faults() == []
    if answer.status == 2:
        asked = [f"topology.graph={name}"] if name in GRAPHS else ["topology.n=5", f"topology.weights={name}"]
        assert answered(["run", "task=digits", *asked]).faults(allowed=(2,)) == []
    assert os.listdir() in ([name], [])


def test_no_bomb_goes_off_and_nothing_outside_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for number, content in enumerate((BOMB, OUTSIDE.format(tmp_path / "secret"), OUTSIDE.format("http://localhost:9"))):
        path = tmp_path / f"{number}.graphml"
        path.write_text(content)
        assert topology(path) == "refused"
        with pytest.raises(ValueError, match="is not GraphML") as caught:
            topologies.graph_from_file(path)
        assert "secret" not in str(caught.value).replace(str(tmp_path), "")


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        (np.eye(5) * 2, "sums to 2"),
        (-W, "."),
        (np.full((5, 5), 0.2), "."),
        (W + 1e-3, "."),
        (np.where(W > 0, np.nan, 0), "finite"),
        (W[:4, :4], "."),
        (np.eye(5), "."),
        (W.astype(object), "not a .npy array"),
        (W * 1j, "real"),
    ],
)
def test_a_matrix_that_does_not_average_over_the_graph_is_refused(
    tmp_path: Path, matrix: np.ndarray, sentence: str
) -> None:
    path = tmp_path / "w.npy"
    np.save(path, matrix, allow_pickle=True)
    with pytest.raises(ValueError, match=sentence):
        topologies.Topology("ring", 5, weights=str(path)).matrix()
