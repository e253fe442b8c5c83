"""What the shell completes, asked for as the shell asks: by Typer's environment variables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dsgd import cli
from dsgd.cli.catalogue import TABLES
from dsgd.study import list_studies

if TYPE_CHECKING:
    from tests.conftest import Dsgd

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """What bash is told for a line, in an empty folder."""

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_DSGD_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit) as ended:
            cli.main([])
        assert ended.value.code == 0
        return capsys.readouterr().out.split()

    return completed


def test_commands_are_completed(complete: Complete) -> None:
    assert set(complete("dsgd s")) == {"study", "studies", "show"}


def test_names_of_studies_and_parts_are_completed(complete: Complete) -> None:
    assert complete("dsgd study equi") == ["equivalence"]
    assert set(complete("dsgd study ")) == set(list_studies())
    assert complete("dsgd list learn") == ["learning_rates"]
    assert complete("dsgd list ") == list(TABLES)
    assert complete("dsgd topology show hyper") == ["hypercube"]
    assert complete("dsgd landscape a --kind e") == ["eigenvectors"]


def test_configurations_and_keys_are_completed(complete: Complete) -> None:
    Path("ring.yaml").write_text("task: digits\n")
    Path("tasks").mkdir()
    Path("ta.txt").touch()
    assert complete("dsgd run ri") == ["ring.yaml"]
    assert complete("dsgd run ta") == ["tasks/", "task="]
    assert "learning_rate=" in complete("dsgd run ring.yaml l")


def test_folders_of_runs_are_completed(complete: Complete) -> None:
    for name in ("runs/good", "runs/other", "more/deep"):
        Path(name).mkdir(parents=True)
    Path("runs/good/config.yaml").touch()
    assert complete("dsgd resume ") == ["runs/good", "more/", "runs/"]
    assert complete("dsgd show runs/g") == ["runs/good", "runs/good/"]
    assert complete("dsgd probe more/") == ["more/deep/"]
    assert complete("dsgd runs gone/") == []


def test_completion_is_installed_for_the_shell(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-c", "from dsgd.cli import script; script()", "--install-completion", "bash"]
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.glob(".bash_completions/*.sh")
    assert "_DSGD_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
