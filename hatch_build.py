"""The wheel carries the sources of the folders named `shipped`, as dsgd/_NAME: no results, pilots or figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Shipped(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for folder in (Path(self.root, name) for name in self.config["shipped"]):
            for path in sorted(folder.rglob("*.py")):
                inside = path.relative_to(folder).as_posix()
                build_data["force_include"][str(path)] = f"dsgd/_{folder.name}/{inside}"
