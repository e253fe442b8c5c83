"""Plain values from YAML that may be hostile: YAML 1.2's core schema (yaml.org/spec/1.2.2, chapter 10.3), and no more.

Departures: numbers are decimal and finite, a number with a leading zero is refused (YAML 1.1 reads 012 as 10, 1.2 as
12), and so are tags, anchors, aliases and repeated keys. Keys are strings. Nothing here can run code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_NODES = 50_000
MAX_DIGITS = 18  # every whole number then fits into 64 bits

NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
ZERO_PADDED = re.compile(r"[-+]?0[0-9]+")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(path: Path) -> Any:
    """The value in a file; ValueError with one sentence, which names the place, for whatever is wrong with it."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; give the path of a YAML file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file; give the path of a YAML file")
    return read_text(_text(path), str(path))


def read_text(text: str, name: str, prefix: str = "") -> Any:
    """The value of one YAML document, None if it is empty. Errors name `name`, or `prefix` and the key inside."""
    try:
        events = _events(text, name)
        first = next(events, None)
        value = None if first is None else _value(first, events, prefix or name, prefix, 0)
        if next(events, None) is not None:
            raise ValueError(f"{name}: more than one YAML document; keep one")
        return value
    except (yaml.YAMLError, UnicodeError) as error:
        raise ValueError(f"{name}: not valid YAML ({_reason(error)})") from None


def to_text(value: Any) -> str:
    """YAML that `read_text` reads back to an equal value."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, default_flow_style=None, width=120
    )
    return text


def dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: more than {MAX_BYTES} bytes; a configuration is smaller")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _events(text: str, name: str) -> Iterator[yaml.Event]:
    """The parser's events that open or close a value, counted; what has an anchor or a tag is refused."""
    nodes = 0
    event: Any  # the stubs know of no tags and anchors
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise ValueError(f"{name}: anchors and aliases (& and *) are not read; write the value out, or quote it")
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"{name}: tags (!{event.tag.lstrip('!')}) are not read; write plain values")
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if nodes > MAX_NODES:
            raise ValueError(f"{name}: more than {MAX_NODES} values; a configuration is smaller")
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield event


def _value(event: yaml.Event, events: Iterator[yaml.Event], where: str, path: str, depth: int) -> Any:
    """The value that `event` opens; `where` is the place to name, `path` the dotted one, empty at the top of a file."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where[:100]}: nested more than {MAX_DEPTH} deep; a configuration is flatter")
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event.value, where) if event.implicit[0] else event.value
    if isinstance(event, yaml.SequenceStartEvent):
        places = ((f"{path}[{i}]", item) for i, item in enumerate(_items(events)))
        return [_value(item, events, place, place, depth + 1) for place, item in places]
    return _mapping(events, where, path, depth)


def _mapping(events: Iterator[yaml.Event], where: str, path: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for opening in _items(events):
        if not isinstance(opening, yaml.ScalarEvent):
            raise ValueError(f"{where}: a key is a list or a mapping; keys are names")
        key = dotted(path, opening.value)
        if opening.value in found:
            raise ValueError(f"{key}: given twice; keep one")
        found[opening.value] = _value(next(events), events, key, key, depth + 1)
    return found


def _items(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    """The events that open the items of the collection just entered, up to its end."""
    while not isinstance(event := next(events), yaml.CollectionEndEvent):
        yield event


def _scalar(text: str, where: str) -> str | float | bool | None:
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"{where}: {text} given; numbers must be finite")
    if ZERO_PADDED.fullmatch(text):
        raise ValueError(f"{where}: {text[:40]} given; write the number without leading zeros, or quote it")
    if INTEGER.fullmatch(text):
        return _integer(text, where)
    return _number(text, where) if NUMBER.fullmatch(text) else text


def _integer(text: str, where: str) -> int:
    if len(text.lstrip("+-")) > MAX_DIGITS:
        raise ValueError(f"{where}: {text[:40]} given; whole numbers have at most {MAX_DIGITS} digits")
    return int(text)


def _number(text: str, where: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{where}: {text[:40]} given; numbers must be finite")
    return number


class _Dumper(yaml.SafeDumper):
    """Quotes each string that this module, or a YAML 1.1 reader, would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))
