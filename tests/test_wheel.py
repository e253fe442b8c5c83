"""The wheel and the sdist: what is in them, and the wheel, installed alone, among files that have our names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import dsgd

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[1]


def built(kind: str, source: Path, out: Path) -> Path:
    build = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (found,) = out.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    return message_from_bytes(zipfile.ZipFile(wheel).read(f"dsgd-{dsgd.__version__}.dist-info/METADATA"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment that has the wheel and what it asks for, and nothing else."""
    environment = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, text=True)
    return environment / "bin"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A research folder whose own files have the names of ours."""
    folder = tmp_path_factory.mktemp("research")
    for package in ("experiments", "benchmarks", "tests"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(f"raise ImportError('the wrong {package}')\n")
    for module in ("topologies", "dsgd", "config", "run", "study"):
        (folder / f"{module}.py").write_text(f"raise ImportError('the wrong {module}')\n")
    return folder


def answer(folder: Path, *command: str | Path) -> str:
    """What a command prints, run as by a user who has set nothing."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DSGD_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_our_two_packages_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    info = f"dsgd-{dsgd.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"dsgd", "topologies", info}
    assert {"dsgd/py.typed", "topologies/py.typed", f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"} < {*names}
    assert {"dsgd/_experiments/equivalence.py", "dsgd/_benchmarks/suite.py"} < {*names}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "dsgd" / "templates").iterdir()}
    assert templates < {*names}
    inner = {part for name in names for part in name.split("/")[1:-1]}
    assert not inner & {"tests", "docs", "results", "pilots", "runs", "__pycache__", "requirements"}


def test_sources_of_studies_and_benchmarks_come_along_and_their_results_do_not(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("experiments", "benchmarks"):
        sources = {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")}
        shipped = {name.removeprefix(f"dsgd/_{folder}/") for name in names if name.startswith(f"dsgd/_{folder}/")}
        assert shipped == sources
    assert (ROOT / "experiments" / "results").is_dir()


def test_the_metadata_say_what_it_is_and_what_it_takes(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("dsgd", dsgd.__version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    said = set(metadata.get_all("Classifier", []))
    pythons = {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)}
    assert pythons | {"Typing :: Typed"} < said
    assert metadata["Description-Content-Type"] == "text/markdown"
    extras = {"cluster", "data", "dev", "fast", "metrics", "plots", "topology", "track"}
    assert extras <= set(metadata.get_all("Provides-Extra", []))


def test_every_extra_names_something(metadata: Message) -> None:
    needs = metadata.get_all("Requires-Dist", [])
    for extra in metadata.get_all("Provides-Extra", []):
        assert any(f"extra == '{extra}'" in need for need in needs), extra
    assert any(need.startswith("ray[default]") and "cluster" in need for need in needs)


def test_the_sdist_builds_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    beside = {"README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "Makefile", "tests", "docs", "requirements"}
    assert beside <= {path.name for path in source.iterdir()}
    again = built("wheel", source, tmp_path / "again")
    assert again.name == wheel.name
    ours, theirs = (
        {name: archive.read(name) for name in archive.namelist()} for archive in map(zipfile.ZipFile, (wheel, again))
    )
    assert ours == theirs


def test_it_is_imported_from_where_it_was_installed(installed: Path, tmp_path: Path, foreign: Path) -> None:
    code = "import dsgd, topologies; print(dsgd.__file__, topologies.__file__); print(dsgd.Run(steps=3).steps)"
    *paths, steps = answer(tmp_path, installed / "python", "-c", code).split()
    assert all(Path(path).is_relative_to(installed.parent) for path in paths)
    assert steps == "3"
    safely = answer(foreign, installed / "python", "-P", "-c", "import dsgd; print(dsgd.__version__)")
    assert safely.split() == [dsgd.__version__]
    assert answer(foreign, installed / "dsgd", "--version").split() == ["dsgd", dsgd.__version__]


@pytest.mark.parametrize("backend", ["local", "processes"])
def test_it_trains_and_reports_among_hostile_neighbours(installed: Path, foreign: Path, backend: str) -> None:
    program, folder = installed / "dsgd", f"runs/{backend}"
    words = ["task=digits", "steps=20", "topology.n=4", f"backend={backend}", "--out", folder, "--json"]
    summary = json.loads(answer(foreign, program, "run", *words))
    assert summary["steps"] == 20
    answer(foreign, program, "report", folder)
    assert "<svg" in (foreign / folder / "report.html").read_text(encoding="utf-8")


def test_a_study_runs_among_hostile_neighbours(installed: Path, foreign: Path) -> None:
    found = json.loads(
        answer(foreign, installed / "dsgd", "study", "consensus_distance", "--preset", "smoke", "--json")
    )
    assert found["study"] == "consensus_distance"
    page = foreign / "runs" / "study-consensus_distance-smoke" / "report.html"
    assert "<svg" in page.read_text(encoding="utf-8")
    assert answer(foreign, installed / "dsgd", "report", page.parent).strip()


def test_the_benchmark_comes_along(installed: Path, tmp_path: Path) -> None:
    program = (
        "from dsgd.shipped import shipped_package; shipped_package('benchmarks'); "
        "from dsgd_benchmarks import peers, suite; print(len(suite.BRIEF), len(peers.PEERS))"
    )
    from benchmarks import peers, suite

    found = answer(tmp_path, installed / "python", "-c", program)
    assert found.split() == [str(len(suite.BRIEF)), str(len(peers.PEERS))]


def test_a_type_checker_sees_our_types(installed: Path, tmp_path: Path) -> None:
    """In a project of somebody else's, by the installed wheel alone."""
    (tmp_path / "theirs.py").write_text(
        "import dsgd\nfrom topologies import Topology\n\n"
        "reveal_type(dsgd.Run(steps=3).steps)\nreveal_type(Topology('ring', 4).n)\ndsgd.Run(steps='three')\n"
    )
    command = [sys.executable, "-m", "mypy", "--python-executable", str(installed / "python"), "theirs.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.count('Revealed type is "int"') + done.stdout.count('Revealed type is "builtins.int"') == 2
    assert 'theirs.py:6: error: Argument "steps" to "Run" has incompatible type "str"; expected "int"' in done.stdout
    assert done.stdout.count("error:") == 1, done.stdout
