"""The knobs of a part: type, default, and what is allowed in the words in which the part itself refuses the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dsgd.config.parts import TABLES
from dsgd.registry import KINDS
from dsgd.run import PARTS
from extension.prose import markdown

WRONG = (-1, 0, 1e12, "?", ())  # of any knob of numbers or names, one of them is out of range
SAID = re.compile(r"(?:; (?:(?:it|they|each) must be |allowed are )?|: give |: use one of |: )(.*)", re.DOTALL)
STANDING_IN = {float: 0.5, int: 1, str: "digits"}  # for knobs that have no default, while others are asked for
SPELLED = {int: "integer", float: "number", str: "string", bool: "true, false", NoneType: "null"}


@dataclass(frozen=True)
class Knob:
    """One row of a reference: Markdown."""

    name: str
    kind: str
    default: str
    allowed: str

    @property
    def row(self) -> tuple[str, ...]:
        return f"`{self.name}`", self.kind, self.default, self.allowed


def knobs(part: Any, without: tuple[str, ...] = ()) -> list[Knob]:
    """Those of a frozen dataclass, in its order."""
    hints = get_type_hints(part)
    return [
        Knob(f.name, kind(hints[f.name]), _default(f), markdown(_allowed(part, f.name, hints[f.name])))
        for f in fields(part)
        if f.name not in without
    ]


def kind(hint: Any) -> str:
    """A type as a configuration has it."""
    arguments = get_args(hint)
    if hint in TABLES:
        return f"a [{anchor(hint).replace('-', ' ')}](configuration.md#{anchor(hint)})"
    if get_origin(hint) is Literal:
        return names(arguments)
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(kind, arguments)))
    if get_origin(hint) is tuple:
        return f"list of {kind(arguments[0]).removeprefix('a ')}"
    return SPELLED.get(hint) or f"`{PARTS.get(hint, getattr(hint, '__name__', str(hint)))}`"


def anchor(hint: Any) -> str:
    """Of the section of a kind of part, such as `learning-rate`."""
    name = next(name for name, kind in KINDS.items() if kind.table is TABLES[hint])
    return name.replace("_", "-")


def names(allowed: Iterable[str]) -> str:
    """Names as Markdown."""
    return ", ".join(f"`{name}`" for name in allowed)


def _default(knob: Field[Any]) -> str:
    value = knob.default if knob.default_factory is MISSING else knob.default_factory()
    return "required" if value is MISSING else f"`{spelled(value)}`"


def spelled(value: Any) -> str:
    """A default as a configuration spells it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(spelled, value))}]"
    words = {True: "true", False: "false", None: "null"} if value is None or isinstance(value, bool) else {}
    return words.get(value) or PARTS.get(type(value)) or str(value)


def _allowed(part: type[Any], knob: str, hint: Any) -> str:
    """Nothing of a knob that is a part, or a list of parts."""
    return "" if hint in TABLES or any(inner in TABLES for inner in get_args(hint)) else allowed(part, knob)


def allowed(part: type[Any], knob: str) -> str:
    """What the part says to a value that cannot be; empty where it takes all of the type."""
    required = {f.name: _stand_in(f) for f in fields(part) if f.default is f.default_factory is MISSING}
    for value in WRONG:
        try:
            part(**required | {knob: value})
        except (ValueError, TypeError, AttributeError) as error:
            said = str(error)
            if isinstance(error, ValueError) and re.match(rf"{knob}(s?\b| ?=)", said) and (found := SAID.search(said)):
                return found[1].rstrip(".")
    return ""


def _stand_in(knob: Field[Any]) -> Any:
    return next((value for of, value in STANDING_IN.items() if of.__name__ in str(knob.type)), None)
