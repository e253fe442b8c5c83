"""The reference of a configuration: every key, and the knobs of every part that it can name."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from dsgd.backends import BACKENDS
from dsgd.cli.catalogue import NOT_KNOBS, entries
from dsgd.cli.catalogue import TABLES as LISTED
from dsgd.config.parts import TABLES
from dsgd.keeping import ON_FULL_DISK, Keeping
from dsgd.run import TWINS, Run
from extension.knobs import Knob, anchor, knobs, names, spelled
from extension.prose import markdown, table
from topologies import SCHEDULES, Topology

KEYS = ("key", "type", "default", "allowed")
KNOBS = ("name", "knob", "type", "default", "allowed")
BESIDE = (
    Knob("name", "string", "the file's name", "letters, digits, `.`, `_` and `-`: names the folder"),
    Knob("plugins", "list of string", "`[]`", "files that it needs, named by `--plugin` as well"),
)


def keys() -> str:
    """Every key at the top, a table."""
    special = {
        "task": Knob("task", "a [task](#task), with its `partition`", "required", "see `dsgd list tasks`"),
        "topology": Knob("topology", "a graph, or a [mapping](#topology)", "`ring`", "see below"),
        "twins": Knob("twins", f"list of {names(TWINS)}", "`[]`", "each once"),
        "batch_size": Knob("batch_size", "integer or `full`", "`32`", "at least 1, or full"),
    }
    of_run = [special.get(knob.name, knob) for knob in knobs(Run)]
    full_disk = {"on_full_disk": names(ON_FULL_DISK), "checkpoint_every": "at least 0 (0: only where it is stopped)"}
    kept = [replace(knob, allowed=full_disk[knob.name]) for knob in knobs(Keeping)]
    where = Knob("backend", "a [backend](#backend)", "`local`", "decides no result")
    return table(KEYS, [knob.row for knob in (*of_run, *kept, where, *BESIDE)])


def topology() -> str:
    """The keys inside `topology`."""
    rows = {
        "graph": ("a name or `{name, seed, knobs}`", "one of the table below, or a file"),
        "n": ("integer", "what the graph can have; the nearest possible n is named; of a file, its number of nodes"),
        "weights": ("string", f"{names(LISTED['weights'])}, or a matrix file"),
        "allow_disconnected": ("true, false", ""),
        "schedule": ("a name or a mapping", names(SCHEDULES)),
    }
    default = {"n": "16", "graph": "ring", "schedule": "static"}
    default |= {f.name: spelled(f.default) for f in fields(Topology) if f.name in ("weights", "allow_disconnected")}
    return table(KEYS, [(f"`{key}`", kind, f"`{default[key]}`", said) for key, (kind, said) in rows.items()])


def graphs() -> str:
    """The graphs with their knobs, which are functions."""
    rows = [(f"`{one.name}`", markdown(one.summary), _defaults(one.knobs)) for one in entries("graphs")]
    return table(("name", "nodes and edges", "knobs"), rows)


def part_knobs() -> str:
    """A section for each kind of part, a table of names and knobs."""
    kinds: dict[str, Any] = {anchor(hint): parts for hint, parts in TABLES.items()}
    kinds |= {"schedule": SCHEDULES, "backend": BACKENDS}
    return "\n".join(_section(name, parts) for name, parts in kinds.items())


def _section(kind: str, parts: dict[str, Any]) -> str:
    rows = [row for name, part in parts.items() for row in _rows(kind, name, part)]
    return f"### {kind.replace('-', ' ').capitalize()}\n\n{table(KNOBS, rows)}"


def _rows(kind: str, name: str, part: Any) -> list[tuple[str, ...]]:
    own = knobs(part, NOT_KNOBS.get(f"{kind}s", ())) if is_dataclass(part) else []
    first, *rest = [knob.row for knob in own] or [("", "", "", "")]
    return [(f"`{name}`", *first), *(("", *row) for row in rest)]


def _defaults(given: dict[str, Any]) -> str:
    return ", ".join(f"`{knob}={spelled(value)}`" for knob, value in given.items())
