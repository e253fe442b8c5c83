"""The wheel, installed alone, works from a foreign folder that has an `experiments` package of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


def test_no_top_level_package_but_our_two(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"dsgd", "topologies"}
    assert "dsgd/_experiments/equivalence.py" in names
    assert "dsgd/templates/report.html.j2" in names
    assert "dsgd/_benchmarks/suite.py" in names


def test_sources_of_studies_and_benchmarks_come_along_and_their_results_do_not(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("experiments", "benchmarks"):
        sources = {path.relative_to(ROOT / folder).as_posix() for path in (ROOT / folder).rglob("*.py")}
        shipped = {name.removeprefix(f"dsgd/_{folder}/") for name in names if name.startswith(f"dsgd/_{folder}/")}
        assert shipped == sources
    assert (ROOT / "experiments" / "results").is_dir()


def test_a_study_runs_from_a_foreign_folder(wheel: Path, tmp_path: Path) -> None:
    """The wheel is unpacked beside the libraries already installed, so that nothing is fetched again."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    foreign = tmp_path / "research"
    (foreign / "experiments").mkdir(parents=True)
    (foreign / "experiments" / "__init__.py").write_text("raise ImportError('the wrong experiments')\n")
    command = [sys.executable, "-m", "dsgd.cli", "study", "equivalence", "--preset", "smoke", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=foreign, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["study"] == "equivalence"
    assert (foreign / "runs" / "study-equivalence-smoke" / "report.html").is_file()
    where = [sys.executable, "-c", "import dsgd, topologies; print(dsgd.__file__, topologies.__file__)"]
    found = subprocess.run(where, cwd=foreign, env=environment, capture_output=True, text=True, check=True).stdout
    assert all(Path(path).is_relative_to(site) for path in found.split())


def test_the_benchmark_comes_along(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    program = (
        "from dsgd.shipped import shipped_package; shipped_package('benchmarks'); "
        "from dsgd_benchmarks import peers, suite; print(len(suite.BRIEF), len(peers.PEERS))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    from benchmarks import peers, suite

    assert done.stdout.split() == [str(len(suite.BRIEF)), str(len(peers.PEERS))], done.stderr
