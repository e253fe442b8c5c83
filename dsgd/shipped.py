"""Folders that come with dsgd beside its packages: inside the wheel, else in the checkout it runs from.

They are found here and never on Python's path, because every research repository has an `experiments` of its own.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from dsgd.results import checkout


def shipped_folder(name: str) -> Path:
    """`dsgd/_NAME` of the wheel, else NAME of the checkout; it may be missing where dsgd is neither."""
    within, root = Path(__file__).resolve().parent / f"_{name}", checkout()
    return root / name if root and not within.is_dir() else within


def shipped_package(name: str) -> ModuleType:
    """The folder as the package `dsgd_NAME`, whose modules then import each other relatively."""
    alias, folder = f"dsgd_{name}", shipped_folder(name)
    if alias not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
            raise FileNotFoundError(f"{folder} does not come with this installation; run from a checkout")
        module = sys.modules[alias] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[alias]
