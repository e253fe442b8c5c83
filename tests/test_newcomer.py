"""The newcomer's session fails where the tutorial promises what is not so, and takes what differs by the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsgd.config import read
from dsgd.yaml_values import read_text
from tests.documented import NEWCOMER

TEXT = NEWCOMER.PAGE.read_text(encoding="utf-8")
RUN = (
    "seconds                   0.8\nconsensus_distance        0.0933\nbytes_sent  123392000\nruns/sweep-digits-ccf49a76"
)


@pytest.mark.parametrize(
    "printed",
    [
        RUN,
        RUN.replace("0.8", "61.25"),
        RUN.replace("0.0933", "0.0939"),
        RUN.replace("        ", "  "),
        RUN.replace("ccf49a76", "0123abcd"),
    ],
)
def test_what_differs_by_the_machine_is_taken(printed: str) -> None:
    assert NEWCOMER.differences(RUN, printed) == []


@pytest.mark.parametrize(
    "printed",
    [
        RUN.replace("0.0933", "0.0990"),
        RUN.replace("0.0933", "-0.0933"),
        RUN.replace("0.0933", "nan"),
        RUN.replace("123392000", "246784000"),
        RUN.replace("consensus", "consent"),
        RUN.splitlines()[0],
        "",
    ],
)
def test_what_is_otherwise_is_told(printed: str) -> None:
    assert NEWCOMER.differences(RUN, printed)


def page(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "page.md"
    path.write_text(text)
    monkeypatch.setattr(NEWCOMER, "PAGE", path)
    monkeypatch.setattr("sys.argv", ["newcomer"])


GOOD = "```sh\nmkdir dsgd && cd dsgd\n```\n```text\n```\n```yaml\n# a.yaml\nn: 1\n```\n```sh\ncat a.yaml\n```\n"


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("```text\n# a.yaml\nn: 1\n```\n`a.yaml`", None),
        ("```text\n# a.yaml\nn: 2\n```\n", "2"),
        ("```text\n# a.yaml\nn: 1\n```\n`b.svg`", "no file b.svg"),
        ("```sh\n" + "true\n" * 13 + "```\n", "16 commands; 15 at most"),
    ],
)
def test_a_page_is_held_to_what_it_promises(
    rest: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page(tmp_path, GOOD + rest, monkeypatch)
    assert NEWCOMER.main() == int(said is not None)
    assert (said or "") in capsys.readouterr().out


def test_a_command_that_fails_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page(tmp_path, "```sh\nfalse && true\ntouch after\n```\n", monkeypatch)
    with pytest.raises(SystemExit, match="failed with status 1: false && true"):
        NEWCOMER.main()


def test_what_is_printed_is_put_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page(tmp_path, "```sh\nmkdir dsgd && cd dsgd\necho '1  two'\n```\n\n```text\nold\n```\nend\n", monkeypatch)
    monkeypatch.setattr("sys.argv", ["newcomer", "--write"])
    assert NEWCOMER.main() == 0
    assert (tmp_path / "page.md").read_text().endswith("```text\n1  two\n```\nend\n")


def test_the_tutorial_is_short_and_its_pictures_are_kept() -> None:
    commands = [line for kind, body in NEWCOMER.BLOCK.findall(TEXT) if kind == "sh" for line in body.splitlines()]
    assert 10 <= sum(len(line.split("&&")) for line in commands) <= NEWCOMER.MOST_COMMANDS
    assert any("--plugin" in line for line in commands)
    pictures = re.findall(r"\]\((tutorial/[\w-]+\.svg)\)", TEXT)
    assert {Path(one).name for one in pictures} <= {Path(one).name for one in NEWCOMER.promised_files(TEXT)}
    assert pictures
    assert all((NEWCOMER.PAGE.parent / one).is_file() for one in pictures)


def test_its_configuration_is_read() -> None:
    (body,) = [body for kind, body in NEWCOMER.BLOCK.findall(TEXT) if kind == "yaml"]
    assert read(read_text(body, "digits.yaml")).run.n == 16
