"""Figures are the same each time, stand beside each other in a page, and survive the data and labels they are given."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import networkx as nx
import pytest

from dsgd import plots
from dsgd.figures import check_inert
from dsgd.plots import Series

X = [0.1, 0.2, 0.5, 1.0]
HOSTILE = "<script>alert('x')</script> & $\\frac$"


def powers(label="residual"):
    series = [Series(label, X, [x**3 for x in X], [0.5 * x**3 for x in X], [2 * x**3 for x in X], slope=3.0)]
    return plots.log_log("Powers", series, "scale", "norm", guides=((3, "s³"),))


def drawings():
    graph = nx.cycle_graph(5)
    return {
        "log_log": powers(),
        "gap": plots.log_log("Gap", [Series("a", X, [0.1, None, 0.5, 1.0]), Series("b", X, X)], "scale", "norm"),
        "graph": plots.draw_graph(graph, "ring", kind="ring"),
        "curves": plots.curves("Loss", [Series("a", X, [-1, 0, 1, None])], "step", "loss"),
        "points": plots.curves("Cloud", [Series("a", X, X)], "gap", "accuracy", logarithmic="x", joined=False),
    }


def texts(figure):
    return [element.text for element in ElementTree.fromstring(figure.svg).iter() if element.tag.endswith("}text")]


def ids(svg):
    return set(re.findall(r'\sid="([^"]+)"', svg))


def test_every_figure_is_inert_scalable_and_takes_the_page_s_ink():
    for figure in drawings().values():
        assert check_inert(figure.svg) == figure.svg
        root = ElementTree.fromstring(figure.svg)
        assert "viewBox" in root.attrib
        assert not {"width", "height"} & root.attrib.keys()
        assert root.attrib["aria-label"] == figure.title
        assert "currentColor" in figure.svg
        assert "#010203" not in figure.svg


def test_the_same_figure_is_the_same_text():
    assert {name: figure.svg for name, figure in drawings().items()} == {
        name: figure.svg for name, figure in drawings().items()
    }


def test_ids_of_different_figures_differ_and_references_are_kept():
    figures = list(drawings().values())
    for i, one in enumerate(figures):
        referred = set(re.findall(r'(?:url\(#|href="#)([^")]+)', one.svg))
        assert referred <= ids(one.svg)
        for other in figures[i + 1 :]:
            assert not ids(one.svg) & ids(other.svg)


def test_hostile_labels_are_drawn_as_text():
    figure = powers(HOSTILE)
    check_inert(figure.svg)
    assert f"{HOSTILE} (slope 3.00)" in texts(figure)


def test_matplotlib_is_left_as_it_was():
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 33.0}):
        before = dict(mpl.rcParams)
        powers()
        assert dict(mpl.rcParams) == before


def test_points_that_a_logarithm_cannot_show_are_left_out():
    curve = Series(
        "a", [0.0, 1.0, 2.0, 3.0, 4.0], [1.0, -1.0, None, math.nan, 5.0], [0, 0, 0, 0, -1.0], [9, 9, 9, 9, 6.0]
    )
    shown = plots._drawable(curve, "xy")
    assert (list(shown.x), list(shown.y)) == ([1.0, 2.0, 3.0, 4.0], [None, None, None, 5.0])
    assert (shown.lo[-1], shown.hi[-1]) == (5.0, 6.0)
    drawn = plots.log_log("t", [curve, Series("none", [1.0], [None])], "x", "y", guides=((1, "x"), (2, "x²")))
    assert "nan" not in drawn.svg.lower()


@pytest.mark.parametrize(("ys", "pieces"), [([1, 2, 3, 4], 1), ([1, 2, None, 4], 2), ([1, None, 3, 4], 2)])
@pytest.mark.parametrize("ends", [None, [1, 2, 3, 4]])
def test_a_line_is_broken_where_nothing_was_measured(ys, pieces, ends):
    drawn = plots.log_log("Gap", [Series("a", X, ys, ends, ends)], "x", "y").svg
    (line,) = re.findall(
        r'<path d="([^"]+)"[^>]*stroke: #0072b2; stroke-width: 1.6; stroke-linecap', drawn, re.IGNORECASE
    )[:1]
    assert line.count("M") == pieces


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_legend_names_all_curves(count):
    figure = plots.log_log("Loss", [Series(f"curve {i}", X, X) for i in range(count)], "x", "y")
    assert sum("curve" in text for text in texts(figure)) == count


def test_labels_are_in_the_signs_of_print():
    drawn = plots.log_log("t", [Series("|G_A - g|", X, X)], "lr * steps", "Tr Xi", guides=((2, "s^2"),))
    assert {"|G_A\u00a0− g|", "lr\u00a0· steps", "Tr Ξ", "s²"} <= set(texts(drawn))


@pytest.mark.parametrize(
    ("value", "text"), [(1e-5, "10⁻⁵"), (2e-5, "2·10⁻⁵"), (0.01, "0.01"), (1, "1"), (1e12, "10¹²"), (500, "500")]
)
def test_powers_of_ten_are_plain_text(value, text):
    assert plots.power_of_ten(value) == text


GRAPHS = {
    "ring": nx.cycle_graph(8),
    "path": nx.path_graph(4),
    "grid": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4)),
    "torus": nx.convert_node_labels_to_integers(nx.grid_2d_graph(4, 4, periodic=True)),
    "star": nx.star_graph(4),
    "binary_tree": nx.balanced_tree(2, 3),
    "hypercube": nx.convert_node_labels_to_integers(nx.hypercube_graph(4)),
    "exponential": nx.DiGraph([(i, (i + 2**k) % 8) for i in range(8) for k in range(3)]),
    "erdos_renyi": nx.gnp_random_graph(9, 0.5, seed=1),
    "": nx.Graph([("a", "b")]),
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_every_node_has_a_place_of_its_own(kind):
    places = plots.positions(GRAPHS[kind], kind)
    assert set(places) == set(GRAPHS[kind])
    points = list(places.values())
    assert min(math.dist(p, q) for i, p in enumerate(points) for q in points[:i]) > 1e-6


def test_neighbours_on_a_grid_are_drawn_side_by_side():
    graph = GRAPHS["grid"]
    places = plots.positions(graph, "grid")
    assert all(math.dist(places[u], places[v]) == 1 for u, v in graph.edges)


def test_one_node_and_a_self_loop_can_be_drawn():
    for graph in (nx.empty_graph(1), nx.Graph([(0, 0), (0, 1)])):
        assert "<path" in plots.draw_graph(graph, "drawn", kind="ring").svg


def test_too_many_nodes_are_refused():
    with pytest.raises(ValueError, match=r"a drawing of 1025 nodes shows nothing: at most 1024 can be drawn"):
        plots.draw_graph(nx.cycle_graph(1025), "big", kind="ring")
