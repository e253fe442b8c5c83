"""The sentences that tell a user what is wrong with a configuration: `dotted.path: what was given; what is allowed`."""

from __future__ import annotations

import difflib
import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Union, get_args, get_origin

from dsgd.typography import cut
from dsgd.typography import one_line as one_line
from dsgd.yaml_values import dotted
from topologies.arguments import knob_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LONGEST = 60  # characters of what was given that a sentence repeats
REFUSALS = (ValueError, OSError, ImportError, ArithmeticError, MemoryError)  # a part, a file, a graph that cannot be

_PHRASES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("true or false", "true or false"),
    str: ("a string", "strings"),
    NoneType: ("null", "null"),
}


class ConfigError(ValueError):
    """Everything wrong with a configuration, in `problems`, one line each."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(cut(one_line(problem)) for problem in problems)
        super().__init__("\n".join(self.problems))


def attempted(readers: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], list[str]]:
    """What each reader returns, by name, and the problems of those that raised ConfigError instead."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, read in readers.items():
        try:
            values[name] = read()
        except ConfigError as error:
            problems += error.problems
    return values, problems


def collected(readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each reader returns, by name; ConfigError with the problems of all."""
    values, problems = attempted(readers)
    if problems:
        raise ConfigError(*problems)
    return values


def refuse(path: str, sentence: str) -> NoReturn:
    raise ConfigError(f"{path}: {sentence}")


def refuse_key(path: str, allowed: Iterable[str], part: str = "", places: Sequence[str] = ()) -> NoReturn:
    """Of a key that is not one of `allowed`, those of a part; there is one of this name at the `places`."""
    allowed = tuple(allowed)
    listed = f"allowed are {', '.join(allowed)}" if allowed else f"{part} has no knobs"
    elsewhere = f" (did you mean {' or '.join(places)}?)" if places else _hint(path.rpartition(".")[2], allowed)
    refuse(path, f"unknown key; {listed}{elsewhere}")


def refuse_type(given: Any, hint: Any, path: str) -> NoReturn:
    """Of a value that is not of the type `hint`."""
    refuse(path, f"{shown(given)} given; allowed is {phrase(hint)}")


def refused(error: BaseException, path: str, keys: Iterable[str] = ()) -> ConfigError:
    """The complaint of a part at the knob that it names, or else that it starts with if that is one of `keys`."""
    sentence = str(error) or type(error).__name__
    start = re.match(r"(\w+)(?: is | are | = |=| )", sentence)
    first = start[1] if start else ""
    knob = knob_of(error) or (first if first in keys else "")
    at = dotted(path, knob) if knob else path
    said = sentence[start.end() :] if start and knob and first == knob.rpartition(".")[2] else sentence
    return ConfigError(f"{at}: {said}" if at else said)


def choice(allowed: Iterable[str], given: Any, path: str, also: str = "", knob: str = "") -> str:
    """`given` if it is one of the names allowed, else ConfigError with these, what `also` may be, and the closest.

    What is no name may be meant for a `knob`.
    """
    allowed = tuple(allowed)
    listed = ", ".join(allowed) + (f", or {also}" if also else "")
    if not isinstance(given, str):
        meant = f" (did you mean {dotted(path, knob)}={shown(given)}?)" if knob else ""
        refuse(path, f"{shown(given)} given; allowed is a name, one of {listed}{meant}")
    if given not in allowed:
        refuse(path, f"{shown(given)} is unknown; allowed are {listed}{_hint(given, allowed)}")
    return given


def phrase(hint: Any) -> str:
    """A type in words, such as "a list of whole numbers"."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(phrase, arguments))
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        return f"a list of {_PHRASES[arguments[0]][1]}"
    return _PHRASES[hint][0]


def sayable(hint: Any) -> bool:
    """Whether `phrase` has words for the type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return all(map(sayable, arguments))
    return origin is Literal or (arguments[0] if origin is tuple else hint) in _PHRASES


def shown(given: Any) -> str:
    """A value as a user wrote it, cut where it is long."""
    spelled = {True: "true", False: "false"}[given] if isinstance(given, bool) else repr(given)
    text = "null" if given is None else spelled
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _hint(given: str, allowed: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(given[:LONGEST], allowed, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
