"""A plug-in is run where it is named, once for what is in it, and travels by its bytes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dsgd import plugins
from dsgd.fingerprint import key, origin
from dsgd.gradients import GRADIENTS
from dsgd.run import Run
from topologies import Static, Topology

SIGN = """
from dataclasses import dataclass
import dsgd
from dsgd.gradients import Estimate

@dsgd.register("gradient", "sign")
@dataclass(frozen=True)
class Sign:
    scale: float = 0.01

    def init(self, p):
        return {}

    def estimate(self, objective, p, noise, memory, at):
        loss, grads = objective.loss_and_grad(p)
        return Estimate(loss, grads.like(grads.matrix.sign() * self.scale), memory)
"""
WHEEL = """
import dsgd, networkx

@dsgd.register("graph", "wheel")
def wheel(n):
    return networkx.wheel_graph(n)
"""

pytestmark = pytest.mark.usefixtures("own_parts")


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    (tmp_path / "sign.py").write_text(SIGN)
    return tmp_path / "sign.py"


def test_a_plug_in_is_run_once_for_what_is_in_it(sign: Path) -> None:
    first = plugins.load(sign)
    assert plugins.load(sign) is first
    assert GRADIENTS["sign"] is first.Sign
    sign.write_text(SIGN.replace("0.01", "0.5"))
    assert plugins.load(sign) is not first
    assert Run(gradient=GRADIENTS["sign"]()).describe()["gradient"] == {"name": "sign", "scale": 0.5}


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("a.py", "x = 1\ny = x / 0\n", r"a\.py cannot be loaded: ZeroDivisionError: division by zero \(line 2\)$"),
        ("a.py", "def broken(:", r"a\.py cannot be loaded: SyntaxError: .*line 1\)$"),
        ("a.py", "import gone", r"a\.py cannot be loaded: ModuleNotFoundError: No module named 'gone' \(line 1\)$"),
        ("a.py", "raise SystemExit(3)", r"a\.py cannot be loaded: SystemExit: 3 \(line 1\)$"),
        ("a.py", "class B(BaseException): ...\nraise B('b')", r"a\.py cannot be loaded: B: b \(line 2\)$"),
        ("a.txt", "", r"a\.txt is not a plug-in; give a Python file, whose name ends in \.py$"),
        ("a.py", None, r"a\.py cannot be read \(No such file or directory\); give a Python file$"),
    ],
)
def test_what_cannot_be_run_is_told_why_and_leaves_no_module(
    tmp_path: Path, name: str, source: str | None, message: str
) -> None:
    if source is not None:
        (tmp_path / name).write_text(source)
    with pytest.raises(ValueError, match=message):
        plugins.load(tmp_path / name)
    assert "dsgd_plugins.a" not in sys.modules
    assert plugins.loaded() == ()


def test_an_edit_that_cannot_be_run_leaves_what_was(sign: Path) -> None:
    first = plugins.load(sign)
    sign.write_text(SIGN + "1 / 0\n")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        plugins.load(sign)
    sign.write_text(SIGN)
    assert plugins.load(sign) is first


def test_two_files_of_one_name_are_refused(sign: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "sign.py"
    other.write_text(WHEEL)
    plugins.load(sign)
    with pytest.raises(ValueError, match=r"other/sign\.py and .*/sign\.py are two plug-ins of one name"):
        plugins.load(other)


def test_another_process_knows_the_classes_though_the_file_is_gone(sign: Path, tmp_path: Path) -> None:
    made = plugins.load(sign).Sign(0.25)
    (tmp_path / "sent").write_bytes(pickle.dumps((plugins.carried(), made)))
    sign.unlink()
    code = "import pickle, pathlib; print(pickle.loads(pathlib.Path('sent').read_bytes())[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "Sign(scale=0.25)\n"


def test_an_edited_file_makes_another_result_of_those_runs_that_use_it(sign: Path, tmp_path: Path) -> None:
    (tmp_path / "wheel.py").write_text(WHEEL)
    plugins.load(tmp_path / "wheel.py")

    def keys() -> list[str]:
        own = plugins.load(sign).Sign()
        return [key(Run(gradient=own)), key(Run(topology=Static(Topology("wheel", 5)))), key(Run())]

    before, sources = keys(), origin(Run(gradient=plugins.load(sign).Sign()))["sources"]
    sign.write_text(SIGN + "# edited\n")
    after = keys()
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
    assert origin(Run(gradient=plugins.load(sign).Sign()))["sources"] != sources
    (tmp_path / "wheel.py").write_text(WHEEL + "# edited\n")
    plugins.load(tmp_path / "wheel.py")
    assert [a == b for a, b in zip(after, keys(), strict=True)] == [True, False, True]


def test_the_line_of_a_user_s_own_file_that_led_to_an_error_is_known(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def divided(x):\n    return 1 / x\n")
    with pytest.raises(ZeroDivisionError) as caught:
        plugins.load(tmp_path / "own.py").divided(0)
    assert plugins.place_of(caught.value) == f"{tmp_path / 'own.py'}, line 2"
    assert plugins.place_of(ValueError("nobody's")) == ""
