"""What is loaded when: quick start-up, a rejected configuration at once, and a local path without pydantic or Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "ray", "matplotlib", "sklearn", "jinja2", "cvxpy"}
ROOMS = """
import importlib, pkgutil, dsgd.data, dsgd.models
for room in (dsgd.data, dsgd.models):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
"""
REJECTED = ["run", "task=digits", "task.partition=shards", "batch_size=1000"]

LIGHT = {  # code -> what it must not load
    "import topologies": HEAVY | {"dsgd", "scipy.sparse.linalg", "scipy.linalg"},
    "import dsgd": HEAVY | {"networkx", "numpy"},
    "import dsgd.cli": HEAVY | {"networkx", "numpy"},
    "import dsgd.config": HEAVY,
    "import dsgd.loop": HEAVY,
    "import dsgd.backends": HEAVY,
    "import dsgd.study, dsgd.results, dsgd.plots, dsgd.report, dsgd.statistics": HEAVY | {"scipy", "networkx"},
    ROOMS: HEAVY | {"pydantic"},
    "from dsgd.cli import main; assert main(['--help']) == 0": HEAVY,
    "from dsgd.cli import main; assert main(['--version']) == 0": HEAVY,
    "from dsgd.cli import main; assert main(['run', '--help']) == 0": HEAVY,
    "from dsgd.cli import main; assert main(['list', 'models']) == 0": HEAVY,
    f"from dsgd.cli import main; assert main({REJECTED}) == 2": HEAVY,
    "import dsgd; dsgd.train(dsgd.Run(steps=1, batch_size=4))": HEAVY - {"torch", "sklearn"},
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(("code", "heavy"), LIGHT.items(), ids=[code.strip().partition("\n")[0] for code in LIGHT])
def test_what_is_not_needed_is_not_loaded(code: str, heavy: set[str]) -> None:
    *_, loaded = run_python(f"{code}\nimport sys; print(sorted({heavy} & sys.modules.keys()))").splitlines()
    assert loaded == "[]"


def test_training_and_probing_need_neither_pydantic_nor_ray_nor_the_command_line() -> None:
    code = """
import sys
for name in ("pydantic", "ray", "typer", "rich", "yaml", "jinja2", "matplotlib"):
    sys.modules[name] = None
import dsgd
from dsgd.models import Mlp
result = dsgd.train(dsgd.Run(model=Mlp((4,)), steps=3, batch_size=4))
found = dsgd.probe(lambda p: sum((leaf.square() ** 2).sum() for leaf in p.values()), result.params)
print(len(result.history), found["rank"])
"""
    assert run_python(code).split() == ["2", "15"]
