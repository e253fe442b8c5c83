"""What a user typed, checked once: every refusal is one sentence that says what was given and what is allowed."""

from __future__ import annotations

import difflib
import math
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def check_name(kind: str, name: object, allowed: Iterable[str]) -> None:
    """Raise a ValueError that suggests the closest allowed name, unless `name` is one of `allowed`."""
    names = list(allowed)
    if isinstance(name, str) and name in names:
        return
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown {kind} {name!r}{hint}; allowed: {', '.join(names) or 'none'}")


def whole_number(what: str, value: object, least: int | None = None) -> int:
    """`value` as an int; a ValueError if it is a bool, has a fractional type or lies below `least`."""
    bound = "" if least is None else f" of at least {least}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # anything may be given: that is what is checked
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or (least is not None and number < least):
        raise ValueError(f"{what} must be a whole number{bound}, not {value!r}")
    return number


def finite_number(what: str, value: object) -> float:
    """`value` as a float; a ValueError if it is a bool, not a number, infinite or NaN."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ValueError(f"{what} must be a number, not {value!r}")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {value!r}")
    return number
