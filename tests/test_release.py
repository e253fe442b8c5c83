"""What a release promises: one version everywhere, a valid citation, and a lock that holds all that CI installs."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

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
    ("cpu_build_found", "installed"), [(True, ["torch-cpu"]), (False, ["torch-cpu", "torch-cuda"])]
)
def test_nothing_is_installed_but_by_hashes(
    monkeypatch: pytest.MonkeyPatch, cpu_build_found: bool, installed: list[str]
) -> None:
    commands: list[list[str]] = []

    class Done:
        def __init__(self, returncode: int) -> None:
            self.returncode = returncode

    def run(command: list[str], **_: object) -> Done:
        commands.append(command[3:])
        return Done(int(not cpu_build_found and "torch-cpu" in command[-1]))

    monkeypatch.setattr(install, "lock", lambda: LOCKS[0].with_name("linux-x86_64-cp311.txt"))
    monkeypatch.setattr(install.subprocess, "run", run)
    install.main()
    *by_hashes, ours, check = commands
    assert all({"--require-hashes", "--no-deps", ":all:"} < {*words} for words in by_hashes)
    assert [Path(words[-1]).stem.removeprefix("linux-x86_64-cp311-") for words in by_hashes[1:]] == installed
    assert {"--no-deps", "--no-build-isolation"} < {*ours}
    assert check == ["check"]


def test_the_licences_of_all_that_the_core_needs_are_listed() -> None:
    """Without torch's CUDA, whose parts are told of in words."""
    (table,) = re.findall(
        r"\| licence \| packages \|\n.*\n((?:\|.*\n)+)", (ROOT / "docs" / "security.md").read_text("utf-8")
    )
    listed = [canonical(name.strip()) for row in table.splitlines() for name in row.split("|")[2].split(",")]
    assert len(listed) == len(set(listed))
    assert set(listed) == core() - cuda()


def test_the_numbers_of_the_changelog_are_those_of_the_committed_results() -> None:
    (table,) = re.findall(
        r"^### Numbers\n.*?\n((?:\|[^\n]*\n)+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M | re.DOTALL
    )
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in table.splitlines()[2:]]
    study = ""
    for what, measured, by in rows:
        study = study if by == "the same" else "".join(re.findall(r"`dsgd study (\w+) ", by))
        if not study:
            continue
        folder = ROOT / "experiments" / "results" / study
        summary = json.loads((folder / "summary.json").read_text("utf-8"))
        assert by in ("the same", f"`{summary['command']}`")
        told = (folder / "report.md").read_text("utf-8") + (folder.parent / "README.md").read_text("utf-8")
        numbers = re.findall(r"−?\d+\.\d+", measured)
        assert numbers, what
        assert [one for one in numbers if not re.search(rf"(?<![\d.]){re.escape(one)}(?!\d)", told)] == [], what
