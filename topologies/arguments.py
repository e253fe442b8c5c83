"""What a user typed, checked once: every refusal is one sentence that says what was given and what is allowed.

A refusal says in its attribute `knob` which knob it is about, so that a caller can say where that was given.
"""

from __future__ import annotations

import difflib
import math
import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class KnobError(ValueError):
    """The refusal of one knob: `knob` is its dotted name in the part that refuses it, as `n` of a topology."""

    def __init__(self, knob: str, sentence: str) -> None:
        super().__init__(knob, sentence)  # all arguments, so that it travels between processes
        self.knob, self.sentence = knob, sentence

    def __str__(self) -> str:
        return self.sentence


@contextmanager
def about(knob: str) -> Iterator[None]:
    """Whatever is refused inside is refused of `knob`, or of a knob inside `knob` where the refusal names one."""
    try:
        yield
    except Exception as error:
        vars(error)["knob"] = ".".join(filter(None, (knob, knob_of(error))))
        raise


def knob_of(error: BaseException) -> str:
    """The dotted name of the knob that an error is about, empty where it names none."""
    return str(getattr(error, "knob", ""))


def check_name(kind: str, name: object, allowed: Iterable[str], knob: str | None = None) -> None:
    """Raise a KnobError that suggests the closest allowed name, unless `name` is one of `allowed`.

    The knob is called as its `kind` unless it has a name of its own.
    """
    names = list(allowed)
    if isinstance(name, str) and name in names:
        return
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise KnobError(knob or kind, f"unknown {kind} {name!r}{hint}; allowed: {', '.join(names) or 'none'}")


def whole_number(what: str, value: object, least: int | None = None) -> int:
    """`value` as an int; a KnobError of `what` if it is a bool, has a fractional type or lies below `least`."""
    bound = "" if least is None else f" of at least {least}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything may be given: that is what is checked
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        raise KnobError(what, f"{what} must be a whole number{bound}, not {value!r}")
    return number


def finite_number(what: str, value: object) -> float:
    """`value` as a float; a KnobError of `what` if it is a bool, not a number, infinite or NaN."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise KnobError(what, f"{what} must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond 1e308
        number = math.inf
    if not math.isfinite(number):
        raise KnobError(what, f"{what} must be a finite number, not {value!r}")
    return number
