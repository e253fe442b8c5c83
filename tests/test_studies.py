"""Every study's smoke preset runs to a report, offline and in seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from dsgd.backends.local import LocalBackend
from dsgd.loop import Observer, Result
from dsgd.run import Run
from dsgd.study import conduct, find_study, list_studies

ROOT = Path(__file__).parents[1]


class NothingToTrain:
    """A backend that must not be asked."""

    def train(self, run: Run, observers: Iterable[Observer] = ()) -> Result:
        pytest.fail("a finished run was trained again")


@pytest.mark.parametrize("name", list_studies())
def test_smoke_preset_reports_and_is_then_reused(name: str, tmp_path: Path) -> None:
    summary = conduct(name, "smoke", out=tmp_path / "out", backend=LocalBackend("cpu"))
    assert {"report.html", "report.md", "summary.json"} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    assert {claim["kind"] for claim in summary["claims"]} == {"claim", "control"}
    assert summary["command"].startswith("dsgd study ")
    drawn = {f"figures/{path.name}" for path in (tmp_path / "out" / "figures").glob("*")}
    shown = re.findall(r"!\[.*\]\((.*)\)", (tmp_path / "out" / "report.md").read_text())
    assert (len(shown), set(shown)) == (len(drawn), drawn)
    for file in ("report.html", "report.md", "summary.json", *drawn):
        text = (tmp_path / "out" / file).read_text()
        assert not [path for path in (tmp_path, ROOT) if str(path) in text], file

    again = conduct(name, "smoke", out=tmp_path / "out", backend=NothingToTrain())
    assert [c["estimate"] for c in again["claims"]] == [c["estimate"] for c in summary["claims"]]


@pytest.mark.parametrize("name", list_studies())
def test_every_preset_is_a_set_of_runs_that_can_be_described(name: str) -> None:
    study = find_study(name)
    assert {"smoke", "standard"} <= set(study.presets)
    for settings in study.presets.values():
        runs = study.runs(settings)
        assert len(runs) == len(set(map(repr, runs.values())))
        assert all(json.dumps(run.describe()) for run in runs.values())


def test_two_processes_train_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsgd.kept_runs.RUNS_A_WORKER", 1)
    one, two = (
        conduct("equivalence", "smoke", out=tmp_path / str(w), backend=LocalBackend("cpu"), workers=w) for w in (1, 2)
    )
    assert [c["estimate"] for c in two["claims"]] == pytest.approx([c["estimate"] for c in one["claims"]], rel=1e-6)


def test_the_equivalence_controls_fail_the_smooth_bar(tmp_path: Path) -> None:
    """The theorem's orders are found on the smooth snapshots and are missing from every control."""
    claims = {
        c["name"]: c for c in conduct("equivalence", "smoke", out=tmp_path, backend=LocalBackend("cpu"))["claims"]
    }
    for quantity, order, margin in (("correction", 2, 0.1), ("residual", 3, 0.15), ("symmetrised", 4, 0.2)):
        assert claims[f"smooth: {quantity} slope"]["estimate"] == pytest.approx(order, abs=margin)
    controls = ("ReLU", "random disjoint shards", "shards by label")
    assert all(claims[f"{name}: residual slope"]["estimate"] < 2.85 for name in controls)
