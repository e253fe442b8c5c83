"""What a release promises: one version everywhere, a valid citation, and a lock that holds all that CI installs."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import dsgd
from requirements import install

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
CFF = {  # of citation-file-format 1.2.0: what it requires, and all the keys that we may use
    "type": "object",
    "required": ["cff-version", "message", "title", "authors"],
    "additionalProperties": False,
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "message": {"type": "string", "minLength": 1},
        "title": {"type": "string", "minLength": 1},
        "abstract": {"type": "string", "minLength": 1},
        "type": {"enum": ["software", "dataset"]},
        "version": {"type": "string", "minLength": 1},
        "license": {"const": "Apache-2.0"},
        "keywords": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True},
        "authors": {"type": "array", "minItems": 1, "items": {"type": "object", "minProperties": 1}},
        "references": {"type": "array", "items": {"type": "object", "required": ["authors", "title", "type"]}},
    },
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    (found,) = re.findall(r"^[\w.-]+", requirement)
    return canonical(found)


def pins(path: Path) -> dict[str, str]:
    """Version by name, of a lock or of constraints."""
    rows = re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text("utf-8"), re.M)
    return {canonical(name): version for name, version in rows}


def locked() -> dict[str, str]:
    return {name: version for path in LOCKS if "-torch-cuda" not in path.stem for name, version in pins(path).items()}


def test_the_version_is_one_everywhere() -> None:
    assert PROJECT["dynamic"] == ["version"]  # taken from dsgd.__version__ by the build
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["version"] == dsgd.__version__
    newest, *_ = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest == dsgd.__version__


def test_the_citation_is_valid() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    jsonschema.validate(citation, CFF)
    assert citation["license"] == PROJECT["license"]
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_there_is_a_lock_for_continuous_integration() -> None:
    assert {path.stem for path in LOCKS} == {f"linux-x86_64-cp311{part}" for part in ("", "-torch-cpu", "-torch-cuda")}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_line_of_a_lock_is_a_version_with_hashes(path: Path) -> None:
    text = "".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if not line.startswith("#"))
    entry = r"[\w.-]+==[^\s;]+(?: ; [^\\\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(f"(?:{entry})+", text)
    assert "://" not in path.read_text("utf-8")


def test_the_lock_has_all_that_the_project_asks_for_at_the_versions_of_the_constraints() -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *extras["dev"], *extras.get("docs", [])]
    there = locked()
    assert {name_of(one) for one in asked} - there.keys() == set()
    tested = pins(ROOT / "constraints.txt")
    assert {name: version.removesuffix("+cpu") for name, version in there.items()}.items() <= tested.items()
    assert pins(ROOT / "requirements" / "linux-x86_64-cp311-torch-cuda.txt")["torch"] == tested["torch"]
    assert not cuda() & tested.keys()


def core() -> set[str]:
    """All that a plain installation brings here, followed from the project's own requirements."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    seen: set[str] = set()
    left = [*PROJECT["dependencies"]]
    while left:
        one = Requirement(left.pop())
        if (one.marker and not one.marker.evaluate({"extra": ""})) or canonical(one.name) in seen:
            continue
        seen.add(canonical(one.name))
        try:
            left += requires(one.name) or []
        except PackageNotFoundError:
            continue
    return seen


def cuda() -> set[str]:
    return pins(ROOT / "requirements" / "linux-x86_64-cp311-torch-cuda.txt").keys() - {"torch"}


def test_all_that_the_core_needs_in_turn_is_locked() -> None:
    assert len(core()) > 30
    assert core() - cuda() - locked().keys() == set()


@pytest.mark.parametrize(
    ("platform", "machine", "python", "libc", "lock"),
    [
        ("linux", "x86_64", (3, 11), "glibc", "linux-x86_64-cp311.txt"),
        ("linux", "x86_64", (3, 12), "glibc", None),
        ("linux", "x86_64", (3, 11), "", None),
        ("linux", "aarch64", (3, 11), "glibc", None),
        ("darwin", "arm64", (3, 11), "", None),
    ],
)
def test_a_lock_is_taken_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, python: tuple[int, int], libc: str, lock: str | None
) -> None:
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.sys, "version_info", python)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    monkeypatch.setattr(install.platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr(install.platform, "python_implementation", lambda: "CPython")
    found = install.lock()
    assert (found and found.name) == lock


@pytest.mark.parametrize(
    ("failure", "installed", "said"),
    [
        ("", ["torch-cpu"], ""),
        (
            "ERROR: first\nERROR: no such file\n[notice] new pip\n",
            ["torch-cpu", "torch-cuda"],
            ": ERROR: no such file\n",
        ),
        ("a\nlast\n", ["torch-cpu", "torch-cuda"], ": last\n"),
        ("\n", ["torch-cpu", "torch-cuda"], ": pip said nothing\n"),
    ],
)
def test_nothing_is_installed_but_by_hashes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    failure: str,
    installed: list[str],
    said: str,
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command[3:])
        failed = failure and "torch-cpu" in command[-1]
        return subprocess.CompletedProcess(command, int(bool(failed)), "", failure)

    monkeypatch.setattr(install, "lock", lambda: LOCKS[0].with_name("linux-x86_64-cp311.txt"))
    monkeypatch.setattr(install.subprocess, "run", run)
    install.main()
    *by_hashes, ours, check = commands
    assert all({"--require-hashes", "--no-deps", ":all:"} < {*words} for words in by_hashes)
    assert [Path(words[-1]).stem.removeprefix("linux-x86_64-cp311-") for words in by_hashes[1:]] == installed
    assert {"--no-deps", "--no-build-isolation"} < {*ours}
    assert check == ["check"]
    assert capsys.readouterr().err.endswith(said)
    assert bool(said) == (len(installed) == 2)


def run_by(target: str) -> str:
    """What a target of the Makefile runs, its prerequisites first, with the files of tests that it names."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rules = {name: rest for name, *rest in re.findall(r"^(\S+): ?(.*)\n((?:\t.*\n)*)", makefile, re.M)}
    before, recipe = rules.get(target, ["", ""])
    named = [(ROOT / path).read_text("utf-8") for path in re.findall(r"tests/\S+\.py", recipe)]
    return "".join([*map(run_by, before.split()), recipe, *named])


def steps_of_continuous_integration() -> dict[str, str]:
    """The text that each command of .ci/run runs."""
    lines = (ROOT / ".ci" / "run").read_text("utf-8").partition("\nexport ")[2].splitlines()[1:]
    steps = {line: run_by(line.removeprefix("make ")) if line.startswith("make ") else line for line in lines if line}
    tutorial = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    return steps | {".ci/newcomer": "".join(re.findall(r"```sh\n(.*?)```", tutorial, re.DOTALL))}


def test_the_page_names_each_step_that_installs_without_hashes() -> None:
    installs = re.compile(r'(?:^|[/\t]|&& |-m )pip install\b.*|"pip"\W+"install".*', re.M)  # not what messages advise
    found = {name: installs.findall(text) for name, text in steps_of_continuous_integration().items()}
    without = {name: lines for name, lines in found.items() if lines}
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    (told,) = re.findall(r"^Three steps of continuous integration .*?\n\n", text, re.M | re.DOTALL)
    assert set(re.findall(r"`(make \S+|\.ci/\w+)`", told)) == without.keys()
    assert len(without) == 3
    for lines in without.values():
        assert all("--constraint" in line and "constraints.txt" in line for line in lines)
        assert not any("--require-hashes" in line for line in lines)


def test_no_other_test_installs() -> None:
    """What pytest collects by folder is in no recipe by name."""
    files = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    assert {name for name, text in files.items() if re.search(r'"pip"\W+"install"', text)} == {"test_wheel.py"}
    assert "pytestmark = pytest.mark.wheel" in files["test_wheel.py"]


def test_the_licences_of_all_that_the_core_needs_are_listed() -> None:
    """Without torch's CUDA, whose parts are told of in words."""
    (table,) = re.findall(
        r"\| licence \| packages \|\n.*\n((?:\|.*\n)+)", (ROOT / "docs" / "security.md").read_text("utf-8")
    )
    listed = [canonical(name.strip()) for row in table.splitlines() for name in row.split("|")[2].split(",")]
    assert len(listed) == len(set(listed))
    assert set(listed) == core() - cuda()


def claim(name: str, digits: int) -> Callable[[Any], str]:
    """Estimate and interval of a claim, as the changelog writes them."""

    def written(summary: Any) -> str:
        (one,) = (one for one in summary["claims"] if one["name"] == name)
        middle, low, high = (f"{number:.{digits}f}" for number in (one["estimate"], *one["ci"]))
        return f"{middle} [{low}, {high}]"

    return written


def least_and_largest(names: str) -> Callable[[Any], str]:
    """Of the estimates of all claims whose names match."""

    def written(summary: Any) -> str:
        found = [one["estimate"] for one in summary["claims"] if re.fullmatch(names, one["name"])]
        return f"{min(found):.2f} to {max(found):.2f}"

    return written


def answered(pattern: str, shape: str) -> Callable[[Any], str]:
    """Numbers out of the study's answer."""

    def written(summary: Any) -> str:
        (found,) = re.findall(pattern, summary["answer"])
        return shape.format(*found)

    return written


def minutes(low: int, high: int) -> Callable[[Any], str]:
    """The span, where the study's time lies in it."""
    return lambda summary: f"{low} to {high} minutes" if 60 * low <= summary["seconds"] <= 60 * high else "another time"


def benched(column: str) -> Callable[[Any], str]:
    """Least and largest of the MLP's rows at batch 32 on a ring and one thread."""
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (ROOT / "benchmarks" / "results" / "speed.md").read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    ours = {"model": "mlp", "B": "32", "graph": "ring", "threads": "1"}.items()
    found = [float(row[column]) for row in rows if ours <= row.items()]
    return lambda _: " to ".join(dict.fromkeys(f"{number:.1f}" for number in (min(found), max(found))))


NUMBERS = {  # what the changelog's rows begin with, and what they are then
    "order in s of average-direction SAM's correction": claim("smooth: correction slope", 3),
    "order of D-SGD's distance from it": claim("smooth: residual slope", 3),
    "linear theory's error on Tr Ξ": answered(r"(\d.\d+ %) on average and by (\d.\d+ %) at most", "{}, at most {}"),
    "λ_max over the edge": least_and_largest(r"(?:GD|USAM|SAM|SSAM-U)(?: [\d.]+)+"),
    "few-shot classes' accuracy of ImbSAM": claim("Few: ImbSAM above SGD", 2),
    "calibration error of SAM": claim("SAM: ECE", 2),
    "one averaging at the end": answered(r"from an accuracy of (\d.\d+) to (\d.\d+);", "{} to {}"),
    "40 % of labels wrong: accuracy of SAM": claim("noisy: SAM above SGD", 2),
    "a step of 16 to 1,024 replicas of an MLP on one core, batch 32, ring, over its floor": benched("x floor"),
    "the same, batch 32, ring, over one centralised step": benched("x centralised"),
    "the demo": minutes(4, 9),
}


def test_the_numbers_of_the_changelog_are_those_of_the_committed_results() -> None:
    (table,) = re.findall(
        r"^### Numbers\n.*?\n((?:\|[^\n]*\n)+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M | re.DOTALL
    )
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table.splitlines()[2:]]
    assert len(rows) == len(NUMBERS)
    command = ""
    for (what, measured, by), (begins, written) in zip(rows, NUMBERS.items(), strict=True):
        assert what.startswith(begins)
        command = command if by == "the same" else by
        study = {"`make demo`": "equivalence"}.get(by, "".join(re.findall(r"`dsgd study (\w+) ", command)))
        summary = study and json.loads((ROOT / "experiments" / "results" / study / "summary.json").read_text("utf-8"))
        assert not study or by in ("the same", "`make demo`", f"`{summary['command']}`")
        assert measured.replace("−", "-") == written(summary), what
