"""What a configuration can name: the rows of each table, the first line of their documentation, and their knobs."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter, getdoc, signature
from typing import TYPE_CHECKING, Any

import topologies
from dsgd.algorithms import ALGORITHMS
from dsgd.backends import BACKENDS
from dsgd.data import PARTITIONS
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS, SOURCES
from dsgd.learning_rates import LEARNING_RATES
from dsgd.losses import LOSSES
from dsgd.metrics import METRICS
from dsgd.metrics.landscape import KINDS
from dsgd.models import MODELS
from dsgd.optimizers import OPTIMIZERS
from dsgd.pretraining import PRETRAININGS
from dsgd.run import PARTS, TWINS
from dsgd.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES: dict[str, Mapping[str, Any]] = {
    "graphs": topologies.GRAPHS,
    "weights": topologies.WEIGHTS,
    "schedules": topologies.SCHEDULES,
    "gradients": GRADIENTS,
    "sources": SOURCES,
    "algorithms": ALGORITHMS,
    "gossips": GOSSIPS,
    "models": MODELS,
    "losses": LOSSES,
    "tasks": TASKS,
    "partitions": PARTITIONS,
    "optimizers": OPTIMIZERS,
    "learning_rates": LEARNING_RATES,
    "pretrainings": PRETRAININGS,
    "metrics": METRICS,
    "landscapes": {name: kind.directions for name, kind in KINDS.items()},
    "twins": TWINS,
    "backends": BACKENDS,
}
AUTHORS = r"[A-Z]\w+(?:, [A-Z]\w+)*(?: & [A-Z]\w+)?(?: et al\.)?"
NOT_KNOBS = {
    "graphs": ("n",),
    "weights": ("graph",),
    "schedules": ("topology", "n"),
    "algorithms": ("state", "step"),
    "landscapes": ("around", "replicas", "count", "seed"),
}


@dataclass(frozen=True)
class Entry:
    """One row of a table; `knobs` maps names to defaults, and `required` are those that have none.

    Of a gradient method also its `paper`, from the head of its file, and its `cost` in gradients of the mini-batch.
    """

    name: str
    summary: str
    knobs: dict[str, Any]
    required: tuple[str, ...]
    paper: str = ""
    cost: str = ""


def entries(table: str) -> list[Entry]:
    """The rows of one of TABLES."""
    return [_entry(name, part, NOT_KNOBS.get(table, ())) for name, part in TABLES[table].items()]


def _entry(name: str, part: Any, hidden: tuple[str, ...]) -> Entry:
    found = _field_defaults(part) if is_dataclass(part) else _argument_defaults(part)
    knobs = {knob: default for knob, default in found.items() if knob not in hidden}
    required = tuple(knob for knob, default in knobs.items() if default in (MISSING, Parameter.empty))
    summary = (getdoc(part) or "").partition("\n")[0]
    plain = {knob: _plain(value) for knob, value in knobs.items() if knob not in required}
    cost = getattr(part, "cost", "")
    return Entry(name, summary, plain, required, paper_of(part) if cost else "", cost)


def paper_of(part: Any) -> str:
    """The first paper that the file of `part` names at its head: authors, year and where it is."""
    head = " ".join((sys.modules[part.__module__].__doc__ or "").split())
    found = re.search(rf"({AUTHORS} \d{{4}}, (?:JMLR [\w -]+, )?arXiv \d{{4}}\.\d{{5}})", head)
    return found[1] if found else ""


def _field_defaults(kind: Any) -> dict[str, Any]:
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}


def _argument_defaults(function: Any) -> dict[str, Any]:
    return {p.name: p.default for p in signature(function).parameters.values()}


def _plain(default: Any) -> Any:
    """A default as a configuration spells it."""
    return list(default) if isinstance(default, tuple) else PARTS.get(type(default), default)
