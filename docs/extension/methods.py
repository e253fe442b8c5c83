"""The pages of methods: each part of a table with its formula, source, cost and knobs, from its docstring."""

from __future__ import annotations

import sys
from dataclasses import is_dataclass
from inspect import getdoc
from typing import Any

from dsgd.cli.catalogue import TABLES, entries
from extension.knobs import knobs
from extension.prose import documentation, markdown, table

HEADER = ("knob", "type", "default", "allowed")


def overview(name: str) -> str:
    """One row a part: what it does, and what that costs in gradients of the mini-batch."""
    rows = [(f"[`{one.name}`](#{anchor(name, one.name)})", markdown(one.summary), one.cost) for one in entries(name)]
    return table(("name", "in a line", "cost"), rows)


def parts(name: str) -> str:
    """A section a part."""
    return "\n".join(_section(name, one.name, one.cost) for one in entries(name))


def anchor(table_name: str, part: str) -> str:
    return f"{table_name}-{part}".replace("_", "-")


def _section(table_name: str, name: str, cost: str) -> str:
    part = TABLES[table_name][name]
    own = is_dataclass(part) and knobs(part)
    lines = [f"({anchor(table_name, name)})=", f"### {name}", "", documentation(part), ""]
    lines += [_source(part, cost), ""] if cost else []
    lines += [table(HEADER, [knob.row for knob in own])] if own else []
    return "\n".join(lines)


def _source(part: Any, cost: str) -> str:
    """The head of the part's file, which has the paper and where it is departed from; and what a step costs."""
    module = sys.modules[part.__module__]
    said = markdown(getdoc(module) or "")
    return f"{said}\n\nCost, in gradients of the mini-batch: {cost}. File: `{module.__name__.replace('.', '/')}.py`."


def classes(name: str) -> str:
    """Each part of a table as autodoc documents it."""
    named = "\n".join(f".. autoclass:: {part.__module__}.{part.__name__}" for part in TABLES[name].values())
    return f"```{{eval-rst}}\n{named}\n```\n"
