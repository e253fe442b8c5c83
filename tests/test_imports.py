"""What is imported when: quick start-up, and a local path that needs neither pydantic nor Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "matplotlib", "sklearn", "jinja2")


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["dsgd", "dsgd.cli", "dsgd.config", "dsgd.loop", "dsgd.study", "dsgd.backends"])
def test_importing_is_light(module: str) -> None:
    found = run_python(f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])")
    assert found.strip() == "[]"


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


def test_ray_is_not_imported_by_a_local_run() -> None:
    code = (
        "import sys, dsgd; dsgd.train(dsgd.Run(steps=1, batch_size=4)); print({'ray', 'matplotlib'} & set(sys.modules))"
    )
    assert run_python(code).strip() == "set()"
