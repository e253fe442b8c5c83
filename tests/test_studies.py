"""Every study's smoke preset runs to a report, offline and in seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest

from dsgd.backends.local import LocalBackend
from dsgd.config import read
from dsgd.loop import Observer, Result
from dsgd.run import Run
from dsgd.study import conduct, find_study, list_studies, study_costs
from tests.committed import Claim, agree, claims_of, pairs_of, problems

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"


class NothingToTrain:
    """A backend that must not be asked."""

    def train(self, run: Run, observers: Iterable[Observer] = ()) -> Result:
        pytest.fail("a finished run was trained again")


Smoke = Callable[[str], tuple[dict[str, Any], Path]]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """The summary and the folder of a study's smoke preset, each conducted once."""

    @cache
    def conducted(name: str) -> tuple[dict[str, Any], Path]:
        out = tmp_path_factory.mktemp(name) / "out"
        return conduct(name, "smoke", out=out, backend=LocalBackend("cpu")), out

    return conducted


@pytest.mark.parametrize("name", list_studies())
def test_smoke_preset_reports_and_is_then_reused(name: str, smoke: Smoke) -> None:
    summary, out = smoke(name)
    assert {"report.html", "report.md", "summary.json"} <= {file.name for file in out.iterdir()}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert {claim["kind"] for claim in summary["claims"]} == {"claim", "control"}
    assert summary["command"].startswith("dsgd study ")
    drawn = {f"figures/{path.name}" for path in (out / "figures").glob("*")}
    shown = re.findall(r"!\[.*\]\((.*)\)", (out / "report.md").read_text())
    assert (len(shown), set(shown)) == (len(drawn), drawn)
    for file in ("report.html", "report.md", "summary.json", *drawn):
        text = (out / file).read_text()
        assert not [path for path in (out, ROOT) if str(path) in text], file

    again = conduct(name, "smoke", out=out, backend=NothingToTrain())
    assert [c["estimate"] for c in again["claims"]] == [c["estimate"] for c in summary["claims"]]


@pytest.mark.parametrize("name", list_studies())
def test_every_preset_is_a_set_of_runs_that_can_be_described(name: str) -> None:
    study = find_study(name)
    assert {"smoke", "standard"} <= set(study.presets)
    for settings in study.presets.values():
        runs = study.runs(settings)
        assert len(runs) == len(set(map(repr, runs.values())))
        assert all(read(json.loads(json.dumps(run.describe()))).run == run for run in list(runs.values())[::37])


@pytest.mark.parametrize("name", list_studies())
def test_its_smoke_preset_leaves_the_seeds_of_the_verdict_alone(name: str) -> None:
    presets = find_study(name).presets
    smoke, standard = presets["smoke"], presets["standard"]
    assert smoke.seed + 4 * smoke.seeds <= standard.seed


@pytest.mark.parametrize("name", list_studies())
def test_its_docstring_says_what_every_preset_takes(name: str) -> None:
    takes = study_costs()[name]
    assert not [preset for preset in find_study(name).presets if not re.search(rf"\b{preset}\b", takes)]


def pilot_of(name: str) -> list[Claim]:
    path = EXPERIMENTS / "pilots" / f"{name}.json"
    return claims_of(json.loads(path.read_text(encoding="utf-8"))["claims"], "claim") if path.is_file() else []


def test_committed_results_are_of_todays_studies(smoke: Smoke) -> None:
    """Made of the standard preset as it is now, with the claims that the pilot and the study's file have."""
    found = {}
    for folder in (path for path in (EXPERIMENTS / "results").iterdir() if path.name != "README.md"):
        assert folder.name in list_studies(), f"{folder.name} is not a study"
        today = claims_of(smoke(folder.name)[0]["claims"])
        found[folder.name] = problems(folder, find_study(folder.name), today, pilot_of(folder.name))
    assert not any(found.values()), found


@pytest.fixture
def result(smoke: Smoke, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder as `make results` leaves it, and its summary; of the smoke preset, but by its summary of `standard`."""
    summary, out = smoke("equivalence")
    folder = tmp_path / "equivalence"
    folder.mkdir()
    copytree(out / "figures", folder / "figures")
    copy(out / "report.md", folder)
    standard = find_study("equivalence").presets["standard"]
    command = f"dsgd study equivalence --preset standard --seed {standard.seed}"
    like = {"preset": "standard", "seed": standard.seed, "seeds": standard.seeds, "command": command}
    (folder / "summary.json").write_text(json.dumps(summary | like))
    return folder, summary | like


def found_in(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """The problems of a result whose claims are those of its pilot and of the study's file today."""
    claims = claims_of(summary["claims"])
    return problems(folder, find_study("equivalence"), claims, claims)


def test_a_result_of_todays_study_has_no_problems(result: tuple[Path, dict[str, Any]]) -> None:
    assert found_in(*result) == []


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "preset": (lambda s: s.update(preset="smoke"), "of study equivalence, preset smoke"),
    "study": (lambda s: s.update(study="other"), "of study other, preset standard"),
    "words": (lambda s: s.update(command=s["command"] + " seeds=3"), "made by .* seeds=3', today it would be"),
    "seeds": (lambda s: s.update(seeds=s["seeds"] + 1), "seeds, the preset has"),
    "seconds": (lambda s: s.update(seconds=0.0), "took 0.0 seconds"),
    "path": (lambda s: s.update(answer="see /home/me/runs"), "summary.json holds a path of the machine"),
    "no claim": (lambda s: s["claims"].pop(), "which was not judged"),
    "name": (lambda s: s["claims"][0].update(name="another"), "which was not judged"),
    "kind": (lambda s: s["claims"][0].update(kind="control"), "which was not judged"),
    "criterion": (
        lambda s: s["claims"][0].update(criterion=s["claims"][0]["criterion"].replace("0.1", "0.2")),
        r"claims 'smooth: correction slope' \(claim: .* 2 ± 0.1\), which was not judged",
    ),
}


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_a_result_that_is_not_todays_is_found(
    result: tuple[Path, dict[str, Any]], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    folder, summary = result
    changed = deepcopy(summary)
    change(changed)
    (folder / "summary.json").write_text(json.dumps(changed))
    assert any(re.search(message, problem) for problem in found_in(folder, summary))


def test_a_criterion_other_than_the_pilots_is_found(result: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = result
    claims = claims_of(summary["claims"])
    pilot = [(*claims[0][:2], "looser"), *claims[1:]]
    told = problems(folder, find_study("equivalence"), claims, pilot)
    assert [text.rpartition(" is in ")[2] for text in told] == ["the results alone", "the pilot alone"]


def test_files_that_a_result_lacks_or_has_too_many_are_found(result: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = result
    (folder / "report.html").write_text("")
    next(folder.glob("figures/*.svg")).unlink()
    (told,) = found_in(folder, summary)
    assert re.search(r"files that .*\['figures/.*svg', 'report.html'\]", told)
    (folder / "report.md").unlink()
    assert found_in(folder, summary) == ["report.md lacking"]


def test_texts_of_two_presets_agree_where_only_their_settings_differ() -> None:
    @dataclass(frozen=True)
    class Settings:
        n: int = 1024
        lrs: tuple[float, ...] = (0.025, 0.4)
        graph: str = "ring"
        bar: float = 0.5

    pairs = pairs_of(Settings(8, (0.2,), "star"), Settings())
    assert agree("at lr = 0.2 on star of 8 is 2 ± 0.5", "at lr = 0.025 on ring of 1,024 is 2 ± 0.5", pairs)
    for other in (
        "at lr = 0.2 on star of 8 is 3 ± 0.5",
        "at lr = 0.2 on star of 8 is 2 ± 0.8",
        "on star of 8 is 2 ± 0.5",
    ):
        assert not agree("at lr = 0.2 on star of 8 is 2 ± 0.5", other, pairs)


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
