"""How numbers, durations and formulas are written for people: one rule each, for the page and for the terminal."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_DECIMALS, MOST_DECIMALS, MOST_DIGITS = 2, 6, 4
LONGEST_SENTENCE = 500
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
GREEK = {"Xi": "Ξ", "sigma": "σ", "delta": "δ", "eta": "η"}
BOUND = "\u00a0"  # a space at which no line is broken
SIGNS = {"+-": "±", "<=": "≤", ">=": "≥", "-": "−"}
SIGNS |= {" +- ": f"{BOUND}±{BOUND}", " - ": f"{BOUND}− ", " * ": f"{BOUND}· ", " x ": f"{BOUND}×{BOUND}"}
SIGNS |= {" to ": f"{BOUND}to{BOUND}", " %": f"{BOUND}%"}
TYPED = re.compile(
    rf"(?<![A-Za-z])(?:{'|'.join(GREEK)})(?![A-Za-z])"
    r"| \+- |\+-|<=|>=| [-*] |(?<=\d) (?:(?:x|to) (?=\d)|%)|(?<![\w-])-(?=[\d.])"  # a hyphen is a minus before a number
    r"|\^(?P<power>-?\d+)"
)


def symbols(text: str) -> str:
    """ASCII formulas with the signs that print has for them: `lr^2 +- 0.1` is lr² ± 0.1, not parted before a sign."""
    return TYPED.sub(_symbol, text)


def _symbol(found: re.Match[str]) -> str:
    return found["power"].translate(RAISED) if found["power"] else (GREEK | SIGNS)[found[0]]


def one_line(text: str) -> str:
    """The text with everything that is not printable spelled out: one line, and nothing a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(sentence: str) -> str:
    """A sentence of which no more than a few lines are left: names and lists in it may be as long as anybody likes."""
    if len(sentence) <= LONGEST_SENTENCE:
        return sentence
    return f"{sentence[: LONGEST_SENTENCE - 205]} ... {sentence[-200:]}"


def duration(seconds: float) -> str:
    """7.4 s, 34 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds) < 60:
        return f"{round(seconds, 1):g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def written(claim: Mapping[str, Any]) -> dict[str, str]:
    """A judged claim's `estimate`, `interval`, `half_width` and `margin`, all with the same number of decimals.

    They show the half-width to two digits and the largest of the three numbers to at most four, and are at least two.
    What the claim does not have is empty.
    """
    lo, hi = claim["ci"] or (None, None)
    half = None if lo is None or hi is None else (hi - lo) / 2
    shown = decimals([value for value in (claim["estimate"], lo, hi) if value is not None] or [0.0], half)
    texts = {"estimate": claim["estimate"], "lo": lo, "hi": hi, "half_width": half, "margin": claim.get("margin")}
    found = {name: "" if value is None else fixed(value, shown) for name, value in texts.items()}
    return found | {"interval": "" if half is None else f"[{found['lo']}, {found['hi']}]"}


def decimals(values: list[float], half_width: float | None) -> int:
    """How many decimals the numbers of one estimate are given."""
    most = MOST_DIGITS - 1 - _magnitude(max(map(abs, values)))
    return max(LEAST_DECIMALS, min(most, 1 - _magnitude(half_width) if half_width else most))


def fixed(value: float, shown: int) -> str:
    """`value` with `shown` decimals; in powers of ten where these are too many to read. Never a negative zero."""
    text = f"{value:.{shown}f}" if shown <= MOST_DECIMALS else f"{value:.{MOST_DIGITS - 1}g}"
    return text.removeprefix("-") if not float(text) else text


def _magnitude(value: float) -> int:
    """The power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(value)) if value else 0
