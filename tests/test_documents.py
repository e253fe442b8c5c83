"""The examples in CONTRIBUTING.md run as they stand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch

import dsgd
from dsgd.backends.local import LocalBackend
from dsgd.run import Run
from dsgd.study import conduct, find_study


def examples() -> list[str]:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_gradient_is_plain_when_switched_off(small: Callable[..., Run]) -> None:
    found: dict[str, type] = {}
    exec(examples()[0], found)
    plain, off, on = (
        dsgd.train(small(**g))
        for g in ({}, {"gradient": found["GradientNorm"](0.0)}, {"gradient": found["GradientNorm"]()})
    )
    for name, leaf in plain.params.items():
        torch.testing.assert_close(off.params[name], leaf, rtol=1e-12, atol=1e-14)
    assert not all(torch.equal(on.params[name], leaf) for name, leaf in plain.params.items())


def test_the_readmes_wrapped_optimizer_steps() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "dsgd.wrap" in block]
    found: dict[str, torch.Tensor] = {}
    exec(example, found)
    assert found["loss"].isfinite()


def test_what_a_backend_may_offer_is_what_is_looked_for() -> None:
    """By name, in our sources; and one backend at least offers it."""
    from dsgd.backends import BACKENDS

    root = Path(__file__).parents[1]
    (listed,) = re.findall(r"\| where it has this \|\n.*\n((?:\|.*\n)+)", (root / "CONTRIBUTING.md").read_text("utf-8"))
    named = {name for row in listed.splitlines() for name in re.findall(r"`(\w+)", row.split("|")[1])}
    sources = "\n".join(path.read_text("utf-8") for path in (root / "dsgd").rglob("*.py"))
    looked_for = r'(?:has|get)attr\((?:\w+\.)*backend, "(\w+)"'
    assert {*re.findall(looked_for, sources), "train_pack", "spread"} == named
    assert all(any(hasattr(backend, name) for backend in BACKENDS.values()) for name in named)


def test_the_study_answers(tmp_path: Path) -> None:
    (tmp_path / "momentum.py").write_text(examples()[1])
    summary = conduct(
        find_study(str(tmp_path / "momentum.py")), "smoke", out=tmp_path / "out", backend=LocalBackend("cpu")
    )
    assert summary["claims"][0]["estimate"] > 1.5
    assert "times as far apart" in summary["answer"]
