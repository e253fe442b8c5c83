"""A figure's file stands alone: it has a size, a title, its own paper and ink, and does nothing but draw."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dsgd.figures import DARK, LIGHT, LONGEST_NAME, SVG, XLINK, Figure, file_names, standalone
from dsgd.plots import Series, curves

HOSTILE = "<script>alert('x')</script> & \"quoted\""


def drawn(caption=""):
    return curves(HOSTILE, [Series("a", [1, 2], [1, 4])], "x", "y", caption)


def tags(root):
    return [element.tag.removeprefix(f"{{{SVG}}}") for element in root]


def test_a_file_has_size_title_paper_and_ink():
    figure = drawn("A caption.")
    root = ElementTree.fromstring(standalone(figure))
    assert tags(root)[:4] == ["title", "desc", "style", "rect"]
    assert (root[0].text, root[1].text) == (HOSTILE, "A caption.")
    _, _, width, height = root.attrib["viewBox"].split()
    assert (root.attrib["width"], root.attrib["height"]) == (f"{width}pt", f"{height}pt")
    assert (root[3].attrib["width"], root[3].attrib["height"]) == (width, height)
    assert (root.attrib["color"], root[3].attrib["fill"]) == (LIGHT["ink"], LIGHT["paper"])


def test_where_dark_is_preferred_paper_and_ink_change_together():
    style = ElementTree.fromstring(standalone(drawn()))[1].text
    query, rules = style.split("{", 1)
    assert query.strip() == "@media (prefers-color-scheme: dark)"
    assert re.findall(r"(\S+) { ([^}]+) }", rules) == [
        (":root", f"color: {DARK['ink']}"),
        (".paper", f"fill: {DARK['paper']}"),
    ]


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_ink_and_paper_are_far_apart(colours):
    """By WCAG's contrast ratio, of which 7 is enhanced."""

    def luminance(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(luminance(colour) for colour in colours.values())
    assert (light + 0.05) / (dark + 0.05) > 12


def test_the_drawing_is_the_pages_own():
    """Every element after the paper is that of the page's drawing, and every reference is kept."""
    figure = drawn()
    page, file = ElementTree.fromstring(figure.svg), ElementTree.fromstring(standalone(figure))
    own = [(e.tag, e.attrib, (e.text or "").strip()) for e in page.iter()][1:]
    assert [(e.tag, e.attrib, (e.text or "").strip()) for e in file.iter()][4:] == own
    assert any(f"{{{XLINK}}}href" in attributes for _, attributes, _ in own)


def test_a_drawing_whose_ink_is_its_own_stays_on_light_paper():
    file = standalone(Figure("Foreign", '<svg width="9" height="8"><path stroke="black" d="M 0 0"/></svg>'))
    root = ElementTree.fromstring(file)
    assert tags(root) == ["title", "rect", "path"]
    assert "prefers-color-scheme" not in file
    assert (root.attrib["width"], root.attrib["height"], root[1].attrib["width"]) == ("9", "8", "100%")
    assert root.tag == f"{{{SVG}}}svg"


def test_a_drawing_that_does_more_than_draw_has_no_file():
    with pytest.raises(ValueError, match="holds <script>"):
        standalone(Figure("f", f'<svg xmlns="{SVG}"><script>alert(1)</script></svg>'))


def test_the_same_figure_is_the_same_file():
    assert standalone(drawn()) == standalone(drawn())


def test_files_are_named_by_titles_and_never_alike():
    titles = ["|G_A − g|, s³", "Loss", "Loss", "loss 2", "Ξ", "", "../../etc/passwd", "é" * 200, "LOSS!"]
    names = file_names([Figure(title, "") for title in titles])
    stems = ["g-a-g-s3", "loss", "loss-2", "loss-2-2", "figure", "figure-2", "etc-passwd", "e" * LONGEST_NAME, "loss-3"]
    assert names == [f"{stem}.svg" for stem in stems]
