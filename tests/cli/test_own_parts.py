"""`--plugin`: own parts on the command line, what a folder remembers of them, and who needs them again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsgd.config import load_config
from dsgd.yaml_values import read_file
from tests.cli.small import SMALL
from tests.conftest import Dsgd
from tests.test_plugins import SIGN

pytestmark = pytest.mark.usefixtures("own_parts")

OWN = [*SMALL, "gradient=sign"]


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    (tmp_path / "sign.py").write_text(SIGN)
    return tmp_path / "sign.py"


def forget() -> None:
    """As in another process, which has loaded nothing."""
    from dsgd import plugins
    from dsgd.gradients import GRADIENTS

    plugins._CARRIED.clear()
    GRADIENTS.pop("sign", None)


@pytest.fixture
def trained(dsgd_command: Dsgd, sign: Path) -> Path:
    assert dsgd_command("run", *OWN, "--plugin", "sign.py", "--out", "a")[0] == 0
    forget()
    return Path("a")


def test_a_folder_remembers_the_file_and_its_hash(trained: Path) -> None:
    config = read_file(trained / "config.yaml")
    assert config["gradient"] == {"name": "sign", "scale": 0.01}
    assert [(one["file"], len(one["sha256"])) for one in config["plugins"]] == [("sign.py", 64)]


@pytest.mark.parametrize(
    "words", [["run", "a/config.yaml"], ["resume", "a"], ["probe", "a"], ["landscape", "a", "--out", "a.svg"]]
)
def test_a_configuration_alone_loads_nothing(dsgd_command: Dsgd, trained: Path, words: list[str]) -> None:
    said = "plugins: the plug-in sign.py is needed, and a configuration cannot load it; add --plugin sign.py\n"
    assert dsgd_command(*words) == (2, "", said)


def test_with_the_file_it_is_the_same_run(dsgd_command: Dsgd, trained: Path) -> None:
    status, _, err = dsgd_command("run", "a/config.yaml", "--plugin", "sign.py", "--out", "b")
    assert (status, "warning" in err) == (0, False)
    assert Path("b/metrics.jsonl").read_text() == Path("a/metrics.jsonl").read_text()
    assert load_config("a/config.yaml") == load_config("b/config.yaml")
    assert dsgd_command("probe", "a", "--plugin", "sign.py")[0] == 0


def test_an_edited_file_is_warned_of_and_not_resumed_with(dsgd_command: Dsgd, trained: Path, sign: Path) -> None:
    (trained / "summary.json").unlink()
    sign.write_text(SIGN + "# edited\n")
    status, _, err = dsgd_command("run", "a/config.yaml", "--plugin", "sign.py", "--dry-run")
    assert (status, err.startswith("warning: the plug-in sign.py is not as it was: sha256 ")) == (0, True)
    forget()
    status, out, err = dsgd_command("resume", "a", "--plugin", "sign.py")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.endswith("; put it back, or go on with --other-version\n")
    forget()
    status, _, err = dsgd_command("resume", "a", "--plugin", "sign.py", "--other-version")
    assert (status, "warning: the plug-in sign.py is not as it was" in err) == (0, True)


def test_a_configuration_by_hand_says_what_it_needs(dsgd_command: Dsgd, sign: Path) -> None:
    Path("run.yaml").write_text("task: digits\ngradient: sign\nplugins: [parts/sign.py]\n")
    status, _, err = dsgd_command("run", "run.yaml", "--dry-run")
    assert (status, err.endswith("add --plugin parts/sign.py\n")) == (2, True)
    assert dsgd_command("run", "run.yaml", "--plugin", "sign.py", "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plugins: sign.py", "plugins: 'sign.py' given; allowed is a list of files, such as [parts.py]"),
        ("plugins: [{sha256: a}]", "plugins[0]: {'sha256': 'a'} given; allowed is a file, or its file and sha256"),
        (
            r'plugins: [{file: a.py, sha256: "zz\e[31m"}]',
            r"plugins[0].sha256: 'zz\x1b[31m' given; allowed are 64 hexadecimal digits",
        ),
        ("plugins: [{file: 1}]", "plugins[0]: {'file': 1} given; allowed is a file, or its file and sha256"),
    ],
)
def test_what_names_no_file_is_refused(dsgd_command: Dsgd, given: str, expected: str) -> None:
    Path("run.yaml").write_text(f"task: digits\n{given}\n")
    assert dsgd_command("run", "run.yaml") == (2, "", f"{expected}\n")


@pytest.mark.parametrize("words", [["run", "task=digits"], ["list"], ["studies"]])
def test_a_plug_in_that_cannot_be_run_is_one_line(dsgd_command: Dsgd, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "bad.py").write_text("import dsgd\ndsgd.register('gradient', 'sam')(3)\n")
    status, out, err = dsgd_command(*words, "--plugin", "bad.py")
    told = (
        "dsgd: No such option"
        if words == ["studies"]
        else "--plugin: bad.py cannot be loaded: ValueError: gradient sam"
    )
    assert (status, out, len(err.splitlines()), err.startswith(told)) == (2, "", 1, True)


def test_a_table_has_the_rows_of_a_plug_in(dsgd_command: Dsgd, sign: Path) -> None:
    status, out, _ = dsgd_command("list", "gradients", "--plugin", "sign.py")
    assert (status, out.splitlines()[-1].split()[0], out.splitlines()[-1].split()[-1]) == (0, "sign", "scale=0.01")


def test_a_sweep_names_the_files_for_who_goes_on_with_it(dsgd_command: Dsgd, sign: Path) -> None:
    words = [*SMALL, "gradient=sign,plain", "--out", "swept", "--plugin", "sign.py"]
    assert dsgd_command("run", *words)[0] == 0
    assert json.loads(Path("swept/sweep.json").read_text())["command"].endswith("--out swept --plugin sign.py")
    (run,) = Path("swept/runs").glob("gradient-sign*")
    assert read_file(run / "config.yaml")["plugins"][0]["file"] == "sign.py"


def test_what_is_shown_of_a_run_names_them_too(dsgd_command: Dsgd, trained: Path) -> None:
    _, out, _ = dsgd_command("show", "a")
    assert "dsgd probe a --plugin sign.py" in out
    assert dsgd_command("report", "a", "--plugin", "sign.py")[0] == 0
    page = (trained / "report.html").read_text()
    assert "gradient=sign" in page
    assert "--plugin sign.py" in page
    assert "The network is not shown" not in page
