"""What a configuration says of plug-ins: which files it needs. It never loads one; the user names them elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsgd import plugins
from dsgd.config.problems import ConfigError, one_line, refuse, shown

HOW = "a configuration cannot load it; add --plugin"


@dataclass(frozen=True)
class Named:
    """A plug-in as a configuration names it: its file, and the hash that it had, if it says."""

    file: str
    sha256: str | None = None


def load_plugin(file: str | Path) -> None:
    """Runs the file that the user names on the command line; ConfigError where that cannot be."""
    try:
        plugins.load(file)
    except ValueError as error:
        raise ConfigError(f"--plugin: {error}") from error


def named_plugins(given: Mapping[str, Any]) -> tuple[Named, ...]:
    """The plug-ins that a configuration needs; ConfigError for those that are not loaded, by the name of their file."""
    listed = given.get("plugins", [])
    if not isinstance(listed, list):
        refuse("plugins", f"{shown(listed)} given; allowed is a list of files, such as [parts.py]")
    found = tuple(_named(item, f"plugins[{i}]") for i, item in enumerate(listed))
    here = {Path(plugin.file).name for plugin in plugins.loaded()}
    if missing := [one.file for one in found if Path(one.file).name not in here]:
        raise ConfigError(*(f"plugins: the plug-in {file} is needed, and {HOW} {file}" for file in missing))
    return found


def changed_plugins(given: Mapping[str, Any]) -> list[str]:
    """A sentence for each plug-in that is another now than it was when the configuration was written."""
    here = {Path(plugin.file).name: plugin for plugin in plugins.loaded()}
    return [
        one_line(
            f"the plug-in {plugin.file} is not as it was: sha256 {plugin.sha256[:12]} instead of {named.sha256[:12]}"
        )
        for named in named_plugins(given)
        if named.sha256 and named.sha256 != (plugin := here[Path(named.file).name]).sha256
    ]


def _named(item: Any, path: str) -> Named:
    if isinstance(item, str):
        return Named(item)
    texts = isinstance(item, Mapping) and all(isinstance(value, str) for value in item.values())
    if not texts or not {"file"} <= item.keys() <= {"file", "sha256"}:
        refuse(path, f"{shown(item)} given; allowed is a file, or its file and sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", item.get("sha256", "0" * 64)):
        refuse(f"{path}.sha256", f"{shown(item['sha256'])} given; allowed are 64 hexadecimal digits")
    return Named(**item)
