"""The newcomer's session, .ci/newcomer, as a module: it knows when two outputs say the same."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType


def _module(path: Path) -> ModuleType:
    loader = SourceFileLoader("newcomer", str(path))
    spec = spec_from_loader("newcomer", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


NEWCOMER = _module(Path(__file__).parents[1] / ".ci" / "newcomer")
