"""Overrides that give a knob several values: `topology.n=8,16,32 seed=0,1` are six runs, every combination one.

A comma outside of brackets, braces and quotes parts values: `model.widths=[64, 32]` is one, `model.widths=[64],[64,32]`
are two, `gradient=plain,{name: sam, rho: 0.1}` too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from dsgd.config.problems import ConfigError
from dsgd.yaml_values import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_RUNS = 1000
NOT_SWEPT = ("name", "backend", "checkpoint_every", "on_full_disk")
OPENING, CLOSING, QUOTES = "[{", "]}", "'\""

Choice = dict[str, str]  # the value of each swept knob, as it is spelled


@dataclass(frozen=True)
class Sweep:
    """Overrides in their order, and of the knobs that were given several values, these as they are spelled."""

    words: tuple[str, ...]
    swept: Mapping[str, tuple[str, ...]]

    def choices(self) -> Iterator[Choice]:
        """Every combination, the last knob's values changing first."""
        return (dict(zip(self.swept, values, strict=True)) for values in product(*self.swept.values()))

    def overrides(self, choice: Choice) -> list[str]:
        """The words, each swept knob at its value of the choice."""
        return [f"{key}={choice[key]}" if (key := key_of(word)) in choice else word for word in self.words]

    def fixed(self) -> list[str]:
        """The words that say one value."""
        return [word for word in self.words if key_of(word) not in self.swept]

    def values(self, choice: Choice) -> dict[str, Any]:
        """The values of a choice, read."""
        return {key: read_text(text, key, key) for key, text in choice.items()}


def read_sweep(words: Sequence[str]) -> Sweep:
    """What the overrides sweep, nothing if each says one value; ConfigError for a sweep that makes no sense.

    Of two words that say the same knob the later one counts, as without a sweep.
    """
    parted = {key_of(word): split_values(word.partition("=")[2]) for word in words}
    swept = {key: values for key, values in parted.items() if len(values) > 1}
    problems = [problem for key, values in swept.items() for problem in _problems(key, values)]
    if (count := prod(map(len, swept.values()))) > MOST_RUNS:
        shape = " x ".join(f"{len(values)} of {key}" for key, values in swept.items())
        problems.append(f"{shape} are {count:,} runs; allowed are {MOST_RUNS:,}, so sweep fewer values at a time")
    if problems:
        raise ConfigError(*problems)
    return Sweep(tuple(words), swept)


def key_of(word: str) -> str:
    return word.partition("=")[0].strip()


def split_values(text: str) -> tuple[str, ...]:
    """The text's parts between the commas that lie in no brackets, braces or quotes, without spaces around them."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in QUOTES and (depth > 0 or not parts[-1].strip()):
            quote = sign
        depth += 0 if quote else (sign in OPENING) - (sign in CLOSING)
        if sign == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return tuple(part.strip() for part in parts)


def label_of(choice: Choice) -> str:
    """A choice in words, such as `topology.n=8 seed=0`."""
    return " ".join(f"{key}={value}" for key, value in choice.items())


def file_name_of(choice: Choice) -> str:
    """A choice as a part of a folder's name, such as `n-8_seed-0`; not always another for another choice."""
    last = Counter(key.rpartition(".")[2] for key in choice)
    parts = [f"{short if last[short := key.rpartition('.')[2]] == 1 else key}-{value}" for key, value in choice.items()]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "_".join(parts)).strip("-._")[:80] or "run"


def _problems(key: str, values: Sequence[str]) -> Iterator[str]:
    if key.partition(".")[0] in NOT_SWEPT:
        yield f"{key}: {len(values)} values given; allowed is one, for it decides no result"
    if "" in values:
        yield f"{key}: an empty value beside a comma; leave the comma out, or quote it where it is no separator"
        return
    try:
        read = [repr(read_text(value, key, key)) for value in values]
    except ValueError as error:
        yield str(error)
        return
    if twice := [value for value, text in zip(values, read, strict=True) if read.count(text) > 1]:
        spelled = tuple(dict.fromkeys(twice))
        verb = "is" if len(spelled) == 1 else "are one value"
        yield f"{key}: {' and '.join(spelled)} {verb} given {len(twice)} times; give it once"
