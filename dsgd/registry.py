"""A user's own parts under names of their own, to be used in configurations as those that come with dsgd."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from dsgd.data import PARTITIONS
from dsgd.gossip import GOSSIPS
from dsgd.gradients import GRADIENTS, SOURCES
from dsgd.learning_rates import LEARNING_RATES
from dsgd.losses import LOSSES
from dsgd.metrics import METRICS
from dsgd.models import MODELS
from dsgd.optimizers import OPTIMIZERS
from dsgd.pretraining import PRETRAININGS
from dsgd.run import PARTS
from dsgd.tasks import TASKS
from topologies import GRAPHS, SCHEDULES, WEIGHTS

Part = TypeVar("Part", bound=Callable[..., Any])

OURS = ("dsgd", "topologies")


@dataclass(frozen=True)
class Kind:
    """A table of parts, and what each of them must have; functions where that is nothing."""

    table: dict[str, Any]
    members: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "task": Kind(TASKS, ("load",)),
    "partition": Kind(PARTITIONS, ("shards",)),
    "model": Kind(MODELS, ("build", "smooth")),
    "loss": Kind(LOSSES, ("__call__",)),
    "gradient": Kind(GRADIENTS, ("init", "estimate")),
    "source": Kind(SOURCES, ("gaussian",)),
    "optimizer": Kind(OPTIMIZERS, ("init", "update")),
    "learning_rate": Kind(LEARNING_RATES, ("at",)),
    "metric": Kind(METRICS, ("__call__", "every")),
    "gossip": Kind(GOSSIPS, ("plan",)),
    "pretraining": Kind(PRETRAININGS, ("start",)),
    "schedule": Kind(SCHEDULES, ("__call__", "n", "period")),
    "graph": Kind(GRAPHS),
    "weights": Kind(WEIGHTS),
}


def register(kind: str, name: str) -> Callable[[Part], Part]:
    """A decorator that lets configurations name a part, such as `@dsgd.register("gradient", "sign")`.

    `kind` is a key of KINDS. Graphs are functions `(n, *, knobs)` to a networkx graph, weights functions of such a
    graph to a sparse matrix; all others are frozen dataclasses, their knobs the fields. What is registered again
    replaces what it was; a name of dsgd's own, or of another file's part, is a ValueError.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of part; allowed are {', '.join(KINDS)}")
    if not (isinstance(name, str) and name.isidentifier()):
        raise ValueError(f"{name!r} cannot name a {kind}; take letters, digits and _, the first no digit")

    def registered(part: Part) -> Part:
        _check_name(kind, name, part)
        _check_part(kind, name, part)
        if replaced := KINDS[kind].table.get(name):
            PARTS.pop(replaced, None)
        KINDS[kind].table[name] = part
        if isinstance(part, type):
            PARTS[part] = name
        return part

    return registered


def _check_name(kind: str, name: str, part: Any) -> None:
    """ValueError where the name is taken by a part that is not an earlier form of this one."""
    there = KINDS[kind].table.get(name)
    if there is None:
        return
    if there.__module__.partition(".")[0] in OURS:
        raise ValueError(f"{kind} {name} is dsgd's own; give yours another name")
    if there.__module__ != part.__module__:
        raise ValueError(f"{kind} {name} is in {there.__module__} and in {part.__module__}; give one another name")


def _check_part(kind: str, name: str, part: Any) -> None:
    """ValueError where it is not of the shape that its kind has."""
    members = KINDS[kind].members
    if not members:
        if isinstance(part, type) or not callable(part):
            raise ValueError(f"{kind} {name} is {part!r}; it must be a function")
        return
    if not (isinstance(part, type) and is_dataclass(part) and _frozen(part)):
        raise ValueError(f"{kind} {name} is {part!r}; it must be a class under @dataclass(frozen=True)")
    if lacking := [member for member in members if member not in _members(part)]:
        raise ValueError(f"{kind} {name} lacks {' and '.join(lacking)}; a {kind} has {', '.join(members)}")
    try:
        get_type_hints(part)
    except NameError as error:
        raise ValueError(f"{kind} {name} has a knob of a type that is not there when it is read: {error}") from None


def _frozen(part: Any) -> bool:
    frozen: bool = part.__dataclass_params__.frozen
    return frozen


def _members(part: type[Any]) -> set[str]:
    """Fields, and what the class and those it is made of define; every class has a `__call__` of its metaclass."""
    return {f.name for f in fields(part)} | {name for base in inspect.getmro(part)[:-1] for name in vars(base)}
