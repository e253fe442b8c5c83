"""A configuration in as few words of the command line as say it: what is left out is a default."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dsgd.config import Config, read, resolved
from dsgd.config.overrides import BARE, with_overrides
from dsgd.results import to_json
from dsgd.yaml_values import MAX_DEPTH, read_text

Path = tuple[str | int, ...]

WORD = re.compile(r"[A-Za-z_][\w./-]*")


def words(config: Config) -> list[str] | None:
    """`a.b=c` overrides that `read` turns into an equal configuration; None where there are none that do."""
    spelled = list(_spelled(_pruned(config), ""))
    given, problems = with_overrides({}, spelled)
    return spelled if not problems and _same(given, config) else None


def _pruned(config: Config) -> dict[str, Any]:
    """The configuration without every key, outer ones first, whose absence changes nothing."""
    left = resolved(config)
    for depth in range(1, MAX_DEPTH):
        for path in _paths(left, depth):
            without = _without(left, path)
            left = without if _same(without, config) else left
    return left


def _paths(node: Any, depth: int) -> list[Path]:
    """The keys of mappings at a depth, each after the keys and places in lists that it is inside of."""
    if depth == 1:
        return [(key,) for key in node] if isinstance(node, dict) else []
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [(key, *path) for key, value in inside for path in _paths(value, depth - 1)]


def _without(node: Any, path: Path) -> Any:
    key, *rest = path
    if isinstance(node, list):
        return [_without(item, tuple(rest)) if place == key else item for place, item in enumerate(node)]
    if not rest:
        return {name: value for name, value in node.items() if name != key}
    return {name: _without(value, tuple(rest)) if name == key else value for name, value in node.items()}


def _same(given: Mapping[str, Any], config: Config) -> bool:
    try:
        return read(given) == config
    except ValueError:
        return False


def _spelled(node: Mapping[str, Any], above: str) -> Iterator[str]:
    """The words of a mapping, a part's name before its knobs."""
    for key, value in sorted(node.items(), key=lambda item: item[0] != BARE.get(above.rstrip("."), "name")):
        path = f"{above}{key}"
        if isinstance(value, dict) and isinstance(name := value.get("name"), str):
            yield f"{path}={_flow(name)}"
            yield from _spelled({knob: inner for knob, inner in value.items() if knob != "name"}, f"{path}.")
        elif isinstance(value, dict) and value:
            yield from _spelled(value, f"{path}.")
        else:
            yield f"{path}={_flow(value)}"


def _flow(value: Any) -> str:
    """YAML on one line: words bare where they read as themselves, a part with nothing but a name as its name."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict) and value.keys() == {"name"}:
        return _flow(value["name"])
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, str) and WORD.fullmatch(value) and read_text(value, "") == value:
        return value
    return to_json(value)
