"""A part of a run from its name and knobs: a row of a table, and for each field a reader of the field's type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache, partial
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dsgd.config.problems import (
    REFUSALS,
    choice,
    collected,
    refuse,
    refuse_key,
    refuse_type,
    refused,
    sayable,
    shown,
)
from dsgd.data import PARTITIONS, DataSource, Partition
from dsgd.gossip import GOSSIPS, Gossip
from dsgd.gradients import GRADIENTS, SOURCES, Gradient, Source
from dsgd.learning_rates import LEARNING_RATES, LearningRate
from dsgd.losses import LOSSES, Loss
from dsgd.metrics import METRICS, Metric
from dsgd.models import MODELS, Model
from dsgd.optimizers import OPTIMIZERS, Optimizer
from dsgd.pretraining import PRETRAININGS, Pretraining
from dsgd.run import PARTS, Run
from dsgd.tasks import TASKS
from dsgd.yaml_values import dotted

TABLES: dict[Any, Mapping[str, type[Any]]] = {
    DataSource: TASKS,
    Partition: PARTITIONS,
    Model: MODELS,
    Gradient: GRADIENTS,
    Source: SOURCES,
    Optimizer: OPTIMIZERS,
    LearningRate: LEARNING_RATES,
    Gossip: GOSSIPS,
    Metric: METRICS,
    Loss: LOSSES,
    Pretraining: PRETRAININGS,
}

Read = Callable[[Any, str], Any]


def part(table: Mapping[str, type[Any]], default: str | None, given: Any, path: str) -> Any:
    """The part that `given` names, alone or beside its knobs; a mapping without a name is of the `default` part."""
    name, knobs = named(table, default, given, path)
    return built(table[name], knobs, path)


def part_list(table: Mapping[str, type[Any]], given: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(given, list | tuple):
        refuse(path, f"{shown(given)} given; allowed is a list of names, such as [{next(iter(table))}]")
    places = [f"{path}[{i}]" for i in range(len(given))]
    return tuple(
        collected({at: partial(part, table, None, item, at) for at, item in zip(places, given, strict=True)}).values()
    )


def named(table: Mapping[str, Any], default: str | None, given: Any, path: str) -> tuple[str, dict[str, Any]]:
    """The name and the knobs in {name: ..., knobs} or in a name alone."""
    if not isinstance(given, Mapping):
        knob = _only_number(table[default]) if default and type(given) in (int, float) else ""
        return choice(table, given, path, knob=knob), {}
    knobs = dict(given)
    if "name" not in knobs and default is None:
        refuse(path, f"no name given; allowed are {', '.join(table)}")
    return choice(table, knobs.pop("name", default), dotted(path, "name")), knobs


def built(
    kind: type[Any],
    given: Mapping[str, Any],
    path: str,
    special: Mapping[str, Read] | None = None,
    fixed: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
) -> Any:
    """`kind` made of the knobs given and those `fixed`; `special` reads some knobs, `also` are keys read elsewhere."""
    fixed = fixed or {}
    values = collected(knob_readers(kind, given, path, special or {}, tuple(fixed), also))
    try:
        return kind(**values, **fixed)
    except REFUSALS as error:
        raise refused(error, path, values) from None


def knob_readers(
    kind: type[Any],
    given: Mapping[str, Any],
    path: str,
    special: Mapping[str, Read],
    fixed: Sequence[str],
    also: Sequence[str],
) -> dict[str, Callable[[], Any]]:
    """For each key given, what reads its value; and for each knob that is missing, what says so."""
    knobs = {f.name: f for f in fields(kind) if f.name not in fixed}
    hints = get_type_hints(kind)
    readers: dict[str, Callable[[], Any]] = {}
    for key in (k for k in knobs if k not in given and _default(knobs[k]) is MISSING):
        named = _table(hints[key])
        what = f"a name, one of {', '.join(named)}" if named else key
        readers[key] = partial(refuse, dotted(path, key), f"missing; give {what}")
    for key, value in given.items():
        at = dotted(path, str(key))
        if key not in knobs:
            readers[at] = partial(refuse_key, at, (*knobs, *also), PARTS.get(kind, kind.__name__), _places(kind, key))
        else:
            readers[key] = partial(special.get(key) or _reader(hints[key], knobs[key]), value, at)
    return readers


def _only_number(kind: type[Any]) -> str:
    """The name of a part's one knob that is a number; empty where it has none or several."""
    numbers = [knob for knob, hint in get_type_hints(kind).items() if hint in (int, float) and knob in _names(kind)]
    return numbers[0] if len(numbers) == 1 else ""


def _places(kind: type[Any], key: Any) -> list[str]:
    """Where a configuration has a knob of this name further inside: the default one, or else one with other parts."""
    if kind is not Run:
        return []
    default = [f"{at}.{key}" for at, node in Run().describe().items() if isinstance(node, dict) and key in node]
    tables = {at: _table(hint) or {} for at, hint in get_type_hints(Run).items()}
    others = (at for at, table in tables.items() if any(key in _names(one) for one in table.values()))
    return default or [f"{at}.{key}" for at in others]


def _names(kind: type[Any]) -> list[str]:
    return [knob.name for knob in fields(kind)]


def _reader(hint: Any, knob: Field[Any]) -> Read:
    """What reads the value of a knob of the type `hint`."""
    if table := _table(hint):
        return partial(part, table, PARTS.get(type(_default(knob))))
    if get_origin(hint) is tuple and (table := _table(get_args(hint)[0])):
        return partial(part_list, table)
    return partial(plain, hint) if sayable(hint) else _refuse_object


def _table(hint: Any) -> Mapping[str, type[Any]] | None:
    """The parts, by name, that a knob of the type `hint` may be; None where it is no part."""
    if hint in TABLES:
        return TABLES[hint]
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return {PARTS[kind]: kind for kind in kinds} if all(kind in PARTS for kind in kinds) else None


def _refuse_object(given: Any, path: str) -> NoReturn:
    """Of a study's setting that is an object of the study's own."""
    allowed = "numbers, strings, parts, and lists of one kind of these"
    refuse(path, f"{shown(given)} given; allowed are {allowed}; change this setting in the study's file")


def _default(knob: Field[Any]) -> Any:
    return knob.default if knob.default_factory is MISSING else knob.default_factory()


def plain(hint: Any, given: Any, path: str) -> Any:
    """A number, a string, true, false, null or a list of such; never one of them read as another."""
    try:
        return _adapter(hint).validate_python(tuple(given) if isinstance(given, list) else given)
    except ValidationError:
        refuse_type(given, hint, path)


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False))
