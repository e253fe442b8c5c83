"""What may be registered, under what names, and that a table of ours is never overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import networkx as nx
import pytest

import dsgd
from dsgd.config import read
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.registry import KINDS
from topologies import Topology

pytestmark = pytest.mark.usefixtures("own_parts")


@dataclass(frozen=True)
class Mine(Plain):
    scale: float = 1.0


@dataclass
class Loose:
    scale: float = 1.0


@dataclass(frozen=True)
class Half:
    def init(self, p: Any) -> dict[str, Any]:
        return {}


def test_a_registered_part_is_read_and_described_like_ours() -> None:
    dsgd.register("gradient", "mine")(Mine)
    run = read({"task": "digits", "gradient": {"name": "mine", "scale": 2}}).run
    assert run.gradient == Mine(2)
    assert run.describe()["gradient"] == {"name": "mine", "scale": 2.0}
    assert read(run.describe()).run == run


def test_in_a_notebook_a_cell_is_run_again() -> None:
    dsgd.register("gradient", "mine")(Mine)
    again = dataclass(frozen=True)(type("Mine", (Plain,), {"__module__": Mine.__module__}))
    dsgd.register("gradient", "mine")(again)
    assert GRADIENTS["mine"] is again


def test_a_graph_that_is_registered_again_is_built_again() -> None:
    def star(n: int) -> Any:
        return nx.star_graph(n - 1)

    def line(n: int) -> Any:
        return nx.path_graph(n)

    dsgd.register("graph", "mine")(star)
    assert Topology("mine", 5).edge_count() == 4
    assert max(dict(Topology("mine", 5).graph_object().degree).values()) == 4
    dsgd.register("graph", "mine")(line)
    assert max(dict(Topology("mine", 5).graph_object().degree).values()) == 2


def test_a_graph_of_other_nodes_and_weights_that_do_not_average_are_refused() -> None:
    dsgd.register("graph", "mine")(lambda n: nx.path_graph(n + 1))
    with pytest.raises(ValueError, match=r"the graph mine has not the nodes 0 to 4 \(n = 5\)"):
        Topology("mine", 5).matrix()
    dsgd.register("weights", "none")(lambda graph: nx.to_scipy_sparse_array(graph, dtype=float))
    with pytest.raises(ValueError, match="row 0 sums to 2"):
        Topology("ring", 5, "none").matrix()


@pytest.mark.parametrize(
    ("kind", "name", "part", "message"),
    [
        ("gradients", "mine", Mine, "'gradients' is no kind of part; allowed are task, partition, model, loss"),
        ("gradient", "my sam", Mine, "'my sam' cannot name a gradient; take letters, digits and _"),
        ("gradient", "sam", Mine, "gradient sam is dsgd's own; give yours another name"),
        ("gradient", "mine", Loose, r"gradient mine is .*Loose.*; it must be a class under @dataclass\(frozen=True\)"),
        ("gradient", "mine", Mine(), r"it must be a class under @dataclass\(frozen=True\)"),
        ("gradient", "mine", Half, "gradient mine lacks estimate; a gradient has init, estimate"),
        ("loss", "mine", Half, "loss mine lacks __call__"),
        ("graph", "mine", Half, "graph mine is .*; it must be a function"),
    ],
)
def test_what_is_no_part_is_refused(kind: str, name: str, part: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dsgd.register(kind, name)(part)
    assert KINDS.get(kind, KINDS["gradient"]).table.get(name) is not part


def test_a_knob_of_an_unknown_type_is_refused() -> None:
    part = dataclass(frozen=True)(type("Mine", (Plain,), {"__annotations__": {"a": "Gone"}, "a": 1}))
    with pytest.raises(ValueError, match=r"gradient mine has a knob of a type that is not there .*'Gone'"):
        dsgd.register("gradient", "mine")(part)
