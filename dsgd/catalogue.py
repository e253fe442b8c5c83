"""What a configuration can name: the rows of each table, the first line of their documentation, and their knobs."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import topologies
from dsgd.algorithms import ALGORITHMS
from dsgd.data import PARTITIONS
from dsgd.gradients import GRADIENTS, SOURCES
from dsgd.learning_rates import LEARNING_RATES
from dsgd.metrics import METRICS
from dsgd.models import MODELS
from dsgd.optimizers import OPTIMIZERS
from dsgd.run import PARTS
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
    "models": MODELS,
    "tasks": TASKS,
    "partitions": PARTITIONS,
    "optimizers": OPTIMIZERS,
    "learning_rates": LEARNING_RATES,
    "metrics": METRICS,
}
NOT_KNOBS = ("n", "graph", "topology", "state", "step", "inner")


@dataclass(frozen=True)
class Entry:
    """One row of a table; `knobs` maps names to defaults, None where there is none."""

    name: str
    summary: str
    knobs: dict[str, Any]


def entries(table: str) -> list[Entry]:
    """The rows of one of TABLES."""
    return [Entry(name, _first_line(part), _knobs(part)) for name, part in TABLES[table].items()]


def _first_line(part: Any) -> str:
    return (inspect.getdoc(part) or "").partition("\n")[0]


def _knobs(part: Any) -> dict[str, Any]:
    found = _field_defaults(part) if is_dataclass(part) else _argument_defaults(part)
    return {name: _plain(default) for name, default in found.items() if name not in NOT_KNOBS}


def _field_defaults(kind: Any) -> dict[str, Any]:
    return {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}


def _argument_defaults(function: Any) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(function).parameters.values()}


def _plain(default: Any) -> Any:
    """A default as a configuration spells it."""
    if default in (MISSING, inspect.Parameter.empty):
        return None
    if isinstance(default, tuple):
        return [_plain(item) for item in default]
    return PARTS.get(type(default), default)
