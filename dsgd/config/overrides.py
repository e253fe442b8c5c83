"""Overrides of a configuration on the command line, spelled as Hydra spells them: `learning_rate.lr=0.3`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsgd.yaml_values import MAX_DEPTH, read_text

BARE = {"topology": "graph"}  # what a bare string stands for, where that is not {name: string}


def with_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The configuration with every override in order that can be applied, and a sentence for each that cannot."""
    result, problems = dict(config), []
    for override in overrides:
        try:
            result = with_override(result, override)
        except ValueError as error:
            problems.append(str(error))
    return result, problems


def with_override(config: Mapping[str, Any], override: str) -> dict[str, Any]:
    """The configuration with `a.b=c` applied; a bare string on the way to b becomes {name: string}, or ValueError."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        raise ValueError(f"{override[:100]!r}: not an override; write path.to.key=value")
    return _placed(config, keys, read_text(text, path, path), ())


def _placed(node: Mapping[str, Any], keys: list[str], value: Any, above: tuple[str, ...]) -> dict[str, Any]:
    key, *rest = keys
    if not rest:
        return {**node, key: value}
    inner = _opened(node.get(key), (*above, key), rest)
    return {**node, key: _placed(inner, rest, value, (*above, key))}


def _opened(value: Any, path: tuple[str, ...], rest: list[str]) -> Mapping[str, Any]:
    """`value` as the mapping that the keys in `rest` lead into."""
    if value is None or isinstance(value, str):
        return {} if value is None else {BARE.get(".".join(path), "name"): value}
    if not isinstance(value, Mapping):
        here = ".".join(path)
        raise ValueError(f"{'.'.join((*path, *rest))}: {here} is not a mapping; give {here} as a whole")
    return value
