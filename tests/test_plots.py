"""Figures are the same each time, stand beside each other in a page, and survive the data and labels they are given."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import networkx as nx
import pytest

from dsgd import graph_drawings, plots
from dsgd.figures import check_inert
from dsgd.plots import Series

X = [0.1, 0.2, 0.5, 1.0]
HOSTILE = "<script>alert('x')</script> & $\\frac$"


def powers(label="residual"):
    series = [Series(label, X, [x**3 for x in X], [0.5 * x**3 for x in X], [2 * x**3 for x in X], slope=3.0)]
    return plots.log_log("Powers", series, "scale", "norm", guides=((3, "s³"),))


def plane(values, marks=()):
    return plots.surface("Plane", X, X, values, "lr^2", "Xi", "A plane.", marks=marks)


def drawings():
    graph = nx.cycle_graph(5)
    return {
        "log_log": powers(),
        "gap": plots.log_log("Gap", [Series("a", X, [0.1, None, 0.5, 1.0]), Series("b", X, X)], "scale", "norm"),
        "graph": graph_drawings.draw_graph(graph, "ring", kind="ring"),
        "curves": plots.curves("Loss", [Series("a", X, [-1, 0, 1, None])], "step", "loss"),
        "surface": plane([x + 10 * y for y in X for x in X]),
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


def contours(figure):
    """The contour lines' points in the drawing, one list a line."""
    drawn = re.findall(r'<path d="([^"]+)"[^>]*stroke-opacity: 0.6', figure.svg)
    return [
        [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)] for path in drawn if path
    ]


def test_a_surfaces_first_values_are_those_of_the_lowest_row_from_the_left():
    """So a value that grows with x alone has upright contour lines, and ink that is denser behind each."""
    upright = contours(plane([x for _ in X for x in X]))
    assert upright
    assert all(len({round(x, 3) for x, _ in line}) == 1 for line in upright)
    level = contours(plane([y for y in X for _ in X]))
    assert all(len({round(y, 3) for _, y in line}) == 1 for line in level)
    shades = re.findall(r'style="fill: currentColor; fill-opacity: ([\d.]+)', plane([x for _ in X for x in X]).svg)
    assert shades == sorted(shades)
    assert float(shades[-1]) == pytest.approx(plots.DENSEST)


def test_contour_lines_carry_their_values_and_marks_their_names():
    replicas = Series("replicas", [0.2, 0.3, 0.7], [0.2, None, 0.7])
    bare, drawn = (
        plane([x + y for y in X for x in X], marks) for marks in ((), (replicas, Series("mean", [0.4], [0.5])))
    )
    levels = plots._told_apart(plots.contour_levels([0.2, 2.0]))
    assert len(set(levels) & set(texts(bare))) > len(levels) / 2
    assert {"replicas", "mean", "lr²", "Ξ"} <= set(texts(drawn))
    assert "replicas" not in texts(bare)
    assert "nan" not in drawn.svg.lower()
    assert len(re.findall("<use", drawn.svg)) - len(re.findall("<use", bare.svg)) == 2 + 1 + 2  # and two in the legend


@pytest.mark.parametrize("values", [[1.0] * 16, [None] * 16, [math.nan, math.inf] * 8, [1.0, *[None] * 15]])
def test_a_plane_without_heights_is_drawn_without_contours(values):
    figure = plane(values)
    assert not contours(figure)
    assert check_inert(figure.svg)


def test_missing_values_leave_holes():
    values = [None if x < 0.3 else x + y for y in X for x in X]
    left = min(x for line in contours(plane(values)) for x, _ in line)
    assert left > min(x for line in contours(plane([x + y for y in X for x in X])) for x, _ in line)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0, 10], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ([-1, 1], [-0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8]),
        ([0.3, 0.3105, 0.305], [0.302, 0.304, 0.306, 0.308, 0.31]),
        ([0.09, 1.1], [0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1]),
        ([0.15, 110], [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]),
        ([0.0, 1e9], [1e8, 2e8, 3e8, 4e8, 5e8, 6e8, 7e8, 8e8, 9e8]),
        ([0.5, 5e6], [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
        ([2, 2], []),
        ([], []),
    ],
)
def test_contour_levels_are_round_and_few(values, levels):
    assert plots.contour_levels(values) == pytest.approx(levels)


def test_over_many_powers_of_ten_some_are_left_out():
    levels = plots.contour_levels([1e-20, 1e20])
    assert 3 <= len(levels) <= plots.MOST_LEVELS
    assert all(math.log10(level) == pytest.approx(round(math.log10(level))) for level in levels)


@pytest.mark.parametrize(
    ("levels", "labels"),
    [
        ([0.1, 0.15000000000000002], ["0.1", "0.15"]),
        ([1000, 20000], ["10³", "2·10⁴"]),
        ([-0.5, 0], ["−0.5", "0"]),
        ([0.30000001, 0.30000002], ["0.30000001", "0.30000002"]),
    ],
)
def test_levels_are_written_as_short_as_they_are_told_apart(levels, labels):
    assert plots._told_apart(levels) == labels


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
    places = graph_drawings.positions(GRAPHS[kind], kind)
    assert set(places) == set(GRAPHS[kind])
    points = list(places.values())
    assert min(math.dist(p, q) for i, p in enumerate(points) for q in points[:i]) > 1e-6


def test_neighbours_on_a_grid_are_drawn_side_by_side():
    graph = GRAPHS["grid"]
    places = graph_drawings.positions(graph, "grid")
    assert all(math.dist(places[u], places[v]) == 1 for u, v in graph.edges)


def test_one_node_and_a_self_loop_can_be_drawn():
    for graph in (nx.empty_graph(1), nx.Graph([(0, 0), (0, 1)])):
        assert "<path" in graph_drawings.draw_graph(graph, "drawn", kind="ring").svg


def test_frames_name_each_shade_from_least_to_greatest():
    values = {"step 0": [1.0, 1.0, 1.0], "step <1>": [-0.5, 2.5, 1.0]}
    frames = graph_drawings.draw_graph(nx.path_graph(3), "drawn", kind="path", values=values, meaning="loss").frames
    assert (frames.names, frames.least, frames.greatest) == (["step 0", "step <1>"], ["1", "−0.5"], ["1", "2.5"])
    places = [[ord(character) - ord("0") for character in colours] for colours in frames.colours]
    assert places == [[0, 0, 0], [0, 63, 32]]
    assert (len(frames.palette), frames.palette[0], frames.palette[63]) == (64, "#440154", "#fde725")


def test_too_many_nodes_are_refused():
    with pytest.raises(ValueError, match=r"a drawing of 1025 nodes shows nothing: at most 1024 can be drawn"):
        graph_drawings.draw_graph(nx.cycle_graph(1025), "big", kind="ring")
