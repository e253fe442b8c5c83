"""Formulas as MathML, which browsers draw by themselves: nothing is fetched, and no LaTeX is needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from docutils import nodes
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.writers.html5 import HTML5Translator

BARS = re.compile(r"<mo>(&#x0007C;|&#x02016;)</mo>")  # of norms: no signs between two numbers


def inline(translator: HTML5Translator, node: Element) -> None:
    translator.body.append(_drawn(node, "inline"))
    raise nodes.SkipNode


def block(translator: HTML5Translator, node: Element) -> None:
    translator.body.append(f'<div class="formula">{_drawn(node, "block")}</div>')
    raise nodes.SkipNode


def _drawn(node: Element, display: str) -> str:
    found: str = convert(node.astext(), display=display)
    return BARS.sub(r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>', found)
