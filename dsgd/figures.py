"""A figure: a titled SVG that can stand in any page, drawn in one style by matplotlib or made elsewhere.

A drawing has a clear background and ink in `currentColor`, so that it takes the page's text colour, light or dark; its
ids carry a prefix of their own, so that several can stand in one page.
"""

from __future__ import annotations

import hashlib
import io
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
INK = "#010203"  # stands for currentColor while matplotlib draws
WIDTH, HEIGHT = 6.4, 4.0  # inches, at 72 SVG units an inch
NARROW, LOW = 5.2, 3.3  # of drawings that stand side by side
LIGHT, DARK = {"paper": "#fdfdfb", "ink": "#1d2126"}, {"paper": "#14171a", "ink": "#e2e5e8"}  # as the report's
DARKENED = "@media (prefers-color-scheme: dark) {{ :root {{ color: {ink} }} .paper {{ fill: {paper} }} }}".format(
    **DARK
)
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

FOLDER, LONGEST_NAME = "figures", 60

DRAWING_TAGS = frozenset(
    {"svg", "g", "defs", "path", "use", "text", "tspan", "rect", "circle", "ellipse", "line", "polyline", "polygon"}
    | {"clipPath", "image", "title", "desc", "linearGradient", "radialGradient", "stop", "marker", "pattern"}
)

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dsgd",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Helvetica", "Arial"],
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Frames:
    """What a figure's nodes were in turn, for a page to step through: the last is the one drawn.

    A line names each frame, and tells its least and greatest value, which have the ends of the `palette`; `colours`
    has a character a node, its place in the palette counted from "0".
    """

    palette: Sequence[str]
    names: Sequence[str]
    least: Sequence[str]
    greatest: Sequence[str]
    colours: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A titled drawing: `svg` is one <svg> element that can stand inside an HTML page."""

    title: str
    svg: str
    caption: str = ""
    frames: Frames | None = None


class Titled(Protocol):
    """What has a title: a figure, a table."""

    @property
    def title(self) -> str: ...


@contextmanager
def canvas(height: float = HEIGHT, width: float = WIDTH) -> Iterator[tuple[Canvas, Axes]]:
    """An empty drawing in the house style, its sides in inches; matplotlib's settings are as before when it is done."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with mpl.rc_context():
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(STYLE)
        empty = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(empty)
        yield empty, empty.add_subplot()


def rendered(drawing: Canvas, title: str, caption: str = "") -> Figure:
    """The finished drawing as a Figure; the same drawing always gives the same text."""
    text = io.StringIO()
    drawing.savefig(text, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Figure(title, inlined(text.getvalue(), title), caption)


def inlined(svg: str, title: str) -> str:
    """An SVG file's text as an element for a page: no prolog, no style sheet, no size of its own."""
    prefix = f"f{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(\sid=\"|url\(#|href=\"#)", rf"\g<1>{prefix}", svg).replace(INK, "currentColor")
    root, rest = svg[svg.index("<svg") :].split(">", 1)
    root = re.sub(r'\s(width|height)="[^"]*"', "", root).removeprefix("<svg")
    named = f'<svg role="img" aria-label="{escape(title)}" stroke-linejoin="round"{root}>{rest}'
    return "\n".join(line for line in named.splitlines() if line.strip())


def standalone(figure: Figure) -> str:
    """The drawing as the text of a file of its own: with a size, a title, and paper under its ink.

    Whatever shows a file hands it no text colour, and a dark page may be read on a machine that asks for light. So ink
    and paper come together: light, and dark where that is preferred and the drawing's ink is the page's. Viewers that
    read no style sheets show the light one. ValueError for a drawing that is not inert.
    """
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(check_inert(figure.svg))
    for element in root.iter():
        element.tag = _local(element.tag)
    box = root.get("viewBox", "").replace(",", " ").split()
    if len(box) == 4:
        root.attrib = {"width": f"{box[2]}pt", "height": f"{box[3]}pt"} | root.attrib
    root.attrib = {"xmlns": SVG, "color": LIGHT["ink"]} | root.attrib
    corners = dict(
        zip(("x", "y", "width", "height"), box if len(box) == 4 else ("0", "0", "100%", "100%"), strict=True)
    )
    paper = ElementTree.Element("rect", {"class": "paper", "fill": LIGHT["paper"]} | corners)
    style = DARKENED if "currentColor" in figure.svg else ""
    said = (("title", figure.title), ("desc", figure.caption), ("style", style))
    root[:0] = [*(_element(tag, text) for tag, text in said if text), paper]
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def file_names(titled: Sequence[Titled], ending: str = ".svg") -> list[str]:
    """A file's name for each: the letters and digits of its title, numbered where that was taken."""
    names: list[str] = []
    for one in titled:
        title = unicodedata.normalize("NFKD", one.title).encode("ascii", "ignore").decode().lower()
        stem = re.sub("[^a-z0-9]+", "-", title)[:LONGEST_NAME].strip("-") or "figure"
        numbered = (
            f"{stem}-{count}{ending}" if count > 1 else f"{stem}{ending}" for count in range(1, len(titled) + 1)
        )
        names.append(next(name for name in numbered if name not in names))
    return names


def _element(tag: str, text: str) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    element.text = text
    return element


def check_inert(svg: str) -> str:
    """`svg` itself when it only draws: no script, style sheet, foreign content, event handler or outside reference.

    Nor what HTML ends elsewhere than XML does: comments, declarations, instructions. ValueError names what was found.
    Figures may come from a user's study, whose labels come from files of others.
    """
    if found := re.search(r"<[!?].{0,20}|url\((?!\s*#)[^)]{0,20}", svg, re.IGNORECASE | re.DOTALL):
        raise ValueError(f"a figure's SVG holds {found[0]!r}; only plain drawing elements are allowed")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"a figure's SVG cannot be read: {error}") from error
    for element in root.iter():
        tag = _local(element.tag)
        if tag not in DRAWING_TAGS:
            raise ValueError(f"a figure's SVG holds <{tag}>; only plain drawing elements are allowed")
        for name, value in element.attrib.items():
            outside = _local(name) == "href" and not value.startswith(("#", "data:image/png;base64,"))
            if _local(name).lower().startswith("on") or outside:
                raise ValueError(f"a figure's SVG holds {_local(name)}={value[:40]!r}; nothing may run or be fetched")
    return svg


def _local(name: str) -> str:
    return name.rpartition("}")[2]
