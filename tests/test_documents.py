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
        dsgd.train(small(**g)) for g in ({}, {"gradient": found["Sam"](0.0)}, {"gradient": found["Sam"]()})
    )
    assert all(torch.equal(off.params[name], leaf) for name, leaf in plain.params.items())
    assert not all(torch.equal(on.params[name], leaf) for name, leaf in plain.params.items())


def test_the_study_answers(tmp_path: Path) -> None:
    (tmp_path / "momentum.py").write_text(examples()[1])
    summary = conduct(
        find_study(str(tmp_path / "momentum.py")), "smoke", out=tmp_path / "out", backend=LocalBackend("cpu")
    )
    assert summary["claims"][0]["estimate"] > 1.5
    assert "times as far apart" in summary["answer"]
