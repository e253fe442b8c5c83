"""Naming a data set or a model is quick: neither torch nor scikit-learn is imported for it."""

from __future__ import annotations

import subprocess
import sys

SLOW = ("torch", "sklearn", "matplotlib", "pydantic")


def test_no_module_imports_what_is_slow() -> None:
    code = (
        "import importlib, pkgutil, sys, dsgd.data, dsgd.models\n"
        "for room in (dsgd.data, dsgd.models):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        f"found = {{*{SLOW}}} & {{*sys.modules}}\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
