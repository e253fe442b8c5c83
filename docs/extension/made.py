"""The directive {made}: what a page holds that is made from the code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.util.docutils import SphinxDirective

from extension import commands, configuration, gallery, methods

if TYPE_CHECKING:
    from collections.abc import Callable

    from docutils.nodes import Node

MAKERS: dict[str, Callable[..., str]] = {
    "overview": methods.overview,
    "parts": methods.parts,
    "classes": methods.classes,
    "commands": commands.commands,
    "keys": configuration.keys,
    "topology": configuration.topology,
    "graphs": configuration.graphs,
    "knobs": configuration.part_knobs,
    "gallery": gallery.overview,
    "drawings": gallery.graphs,
    "rules": gallery.rules,
    "schedules": gallery.schedules,
}


class Made(SphinxDirective):
    """`{made} NAME ARGUMENTS`: the Markdown that MAKERS[NAME](ARGUMENTS) returns, headings and all."""

    required_arguments = 1
    optional_arguments = 3

    def run(self) -> list[Node]:
        self.env.note_reread()  # its sources are modules, which Sphinx does not watch
        name, *words = self.arguments
        return self.parse_text_to_nodes(MAKERS[name](*words), allow_section_headings=True)
