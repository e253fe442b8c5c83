"""The examples of docs/own.md do what they say: each file is written, and the commands below it are run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import Dsgd

TEXT = (Path(__file__).parents[1] / "docs" / "own.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
SCRIPTS = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if not re.match(r"# \w+\.py", block)]


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize("line", [line for line in COMMANDS if "--plugin" in line])
def test_the_commands_run_with_the_files_of_the_examples(dsgd_command: Dsgd, line: str) -> None:
    for name, source in FILES.items():
        Path(name).write_text(source)
    program, *words = shlex.split(line)
    assert program == "dsgd"
    status, out, err = dsgd_command(*words)
    assert (status, bool(out)) == (0, True), err


def test_every_kind_that_a_user_brings_has_an_example() -> None:
    kinds = {kind for source in FILES.values() for kind in re.findall(r'@dsgd\.register\("(\w+)"', source)}
    assert kinds == {"model", "task", "loss", "graph", "gradient", "metric"}
    assert all(any(name in line for line in COMMANDS) for name in FILES)


@pytest.mark.parametrize("script", SCRIPTS, ids=["parts", "tracker"])
def test_the_scripts_run(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if "tensorboard" in script:
        pytest.importorskip("tensorboard")
    exec(script, {"__name__": "script"})
    assert "tracked" in script or 0 <= float(capsys.readouterr().out) <= 1
