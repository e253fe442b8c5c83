"""Plug-ins that lie: a file that is none, one that does not load, and parts that break while a run trains."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from damage import DAMAGES
from guarded import answered

HEAD = """
from dataclasses import dataclass
import dsgd, networkx, numpy, sys, torch
from dsgd.gradients import Estimate
"""
GOOD = (
    HEAD
    + """
@dsgd.register("gradient", "mine")
@dataclass(frozen=True)
class Mine:
    def init(self, p): return {}
    def estimate(self, objective, p, noise, memory, at): return Estimate(*objective.loss_and_grad(p), memory)
"""
)
SMALL = [
    "task=digits",
    "task.train_size=40",
    "model.widths=[3]",
    "topology.n=3",
    "steps=3",
    "batch_size=2",
    "metrics=[]",
]

UNLOADED = {
    "syntax": "def broken(:",
    "raises": "1 / 0",
    "exits": "import sys; sys.exit(0)",
    "ends_the_process_politely": "raise SystemExit",
    "no_exception": "class Own(BaseException): pass\nraise Own('x')",
    "generator_exit": "raise GeneratorExit",
    "recursion": "def f(): return f()\nf()",
    "unknown_module": "import gone",
    "null_byte": "x = 1\x00",
    "nested": "(" * 2000 + ")" * 2000,
    "long_message": "raise ValueError('long' * 10000)",
    "hostile_message": r"raise ValueError('\x1b[31m<script>\n\n\r\u2028')",
    "no_kind": "import dsgd\n@dsgd.register('nothing', 'x')\nclass X: pass",
    "no_dataclass": "import dsgd\n@dsgd.register('gradient', 'x')\nclass X: pass",
    "no_name": HEAD + "@dsgd.register('graph', '../x')\ndef x(n): pass",
    "shadows": HEAD + "@dsgd.register('graph', 'ring')\ndef x(n): pass",
    "lacks": HEAD + "@dsgd.register('metric', 'x')\n@dataclass(frozen=True)\nclass X: pass",
    "a_value": HEAD + "dsgd.register('graph', 'x')(3)",
    "bad_hint": HEAD
    + "@dsgd.register('metric', 'x')\n@dataclass(frozen=True)\nclass X:\n    every: 'Gone' = 0\n"
    + "    def __call__(self, s): pass",
}

PARTS = {
    "gradient": ("init(self, p): return {}", "estimate(self, objective, p, noise, memory, at): {}"),
    "metric": ("x(self): pass\n    every: int | None = None", "__call__(self, snapshot): {}"),
    "learning_rate": ("x(self): pass", "at(self, step, steps): {}"),
    "partition": ("x(self): pass", "shards(self, y, n, seed): {}"),
    "task": ("x(self): pass", "load(self): {}"),
    "model": ("x(self): pass\n    smooth = True", "build(self, shape, classes): {}"),
    "gossip": ("x(self): pass", "plan(self, at): {}"),
    "optimizer": ("init(self, p): return {}", "update(self, grads, memory, p, lr): {}"),
    "loss": ("x(self): pass\n    smooth = True", "__call__(self, outputs, y): {}"),
}
ASKED = {"partition": "task.partition=mine", "metric": "metrics=[mine]", "task": "task=mine"}
BODIES = {
    "raises": "raise KeyError('gone')",
    "raises_at_length": "raise RuntimeError('long' * 10000 + chr(10) * 3)",
    "exits": "sys.exit(0)",
    "recurses": "return [].__class__.__call__(self) if False else self.__class__.__dict__['again'](self)",
    "none": "return None",
    "text": "return 'text'",
    "nan": "return float('nan')",
    "nothing": "return {}",
    "nested": "return {'a': {'b': [object()]}}",
    "tensor": "return torch.full((2, 3), float('nan'))",
    "indices": "return (numpy.array([10**9]),) * 3",
}
QUICK = ("raises", "exits")


def part(kind: str, body: str) -> str:
    other, method = PARTS[kind]
    text = method.replace("{}", f"\n        {body}") if method.endswith("{}") else method
    lines = [f"@dsgd.register({kind!r}, 'mine')", "@dataclass(frozen=True)", "class Mine:", f"    def {other}"]
    return HEAD + "\n".join([*lines, f"    def {text}", "    def again(self): return self.again()", ""])


@pytest.fixture(autouse=True)
def _room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_parts: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", UNLOADED)
def test_a_plug_in_that_does_not_load_is_a_sentence(name: str) -> None:
    Path("mine.py").write_text(UNLOADED[name])
    answer = answered(["run", *SMALL, "--plugin", "mine.py"])
    assert (answer.status, answer.faults()) == (2, [])
    assert "mine.py" in answer.err
    assert os.listdir() == ["mine.py"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plug_in_is_a_sentence(damage: str) -> None:
    Path("mine.py").write_text(GOOD)
    DAMAGES[damage](Path("mine.py"))
    answer = answered(["run", *SMALL, "gradient=mine", "--plugin", "mine.py"])
    assert answer.faults() == []
    assert answer.status == 2 or damage in ("less_one", "other_kinds")  # which change no line of Python
    assert Path("runs").exists() == (answer.status == 0)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with Path("mine.py").open("wb") as file:
        file.truncate(2**40)
    answer = answered(["run", *SMALL, "--plugin", "mine.py"])
    assert (answer.status, "at most" in answer.err, answer.seconds < 2) == (2, True, True)


@pytest.mark.parametrize("body", [b if b in QUICK else pytest.param(b, marks=pytest.mark.slow) for b in BODIES])
@pytest.mark.parametrize("kind", PARTS)
def test_a_part_that_breaks_ends_the_run_in_a_sentence(kind: str, body: str) -> None:
    Path("mine.py").write_text(part(kind, BODIES[body]))
    asked = ASKED.get(kind, f"{kind}=mine")
    replaced = (kind,) if kind in ("task", "model") else (asked.split("=")[0],)
    words = [word for word in SMALL if not word.startswith(replaced)]
    answer = answered(["run", *words, asked, "--plugin", "mine.py", "--out", "out"])
    lines = answer.err.splitlines()
    assert answer.status in (0, 1, 2), answer
    assert "Traceback" not in answer.err
    assert all(len(line) < 700 for line in lines), lines
    assert answer.status == 0 or (lines and lines[-1].isprintable())
    if body.startswith(("raises", "exits", "recurses")):
        assert answer.status != 0
        assert "mine.py, line" in answer.err, answer.err
    if answer.status == 2:
        assert not Path("out").exists(), answer.err
    elif Path("out").exists():
        assert json.loads(Path("out/summary.json").read_text())["status"] == ("ok" if answer.status == 0 else "failed")
