"""The longer examples in the documents do what they say, and their tables hold what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import dsgd
from dsgd.backends.local import LocalBackend
from dsgd.data import Digits, EmergingClasses, Shards
from dsgd.gradients.tram import Tram
from dsgd.metrics import METRICS, Equivalence, Landscape, Merging, Metric, Perplexity, Sharpness, Smoothing, Uncertainty
from dsgd.run import TWINS, Run
from dsgd.study import conduct, find_study
from dsgd.tasks import Task

ROOT = Path(__file__).parents[1]


def examples() -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


SMALLER: dict[str, tuple[Metric, ...]] = {
    "sharpness": (Sharpness(samples=2),),
    "smoothing": (Smoothing(16, 1, 8), Smoothing(16, 1, 8, isotropic=True)),
    "merging": (Merging(),),
    "equivalence": (Equivalence(16), Equivalence(16, own_shards=True)),
    "landscape": (Landscape(points=2), Landscape("replicas", points=2)),
    "uncertainty": (Uncertainty(samples=2),),
    "perplexity": (Perplexity((Digits(train_size=64, split=1),)),),
}


def documented() -> dict[str, list[str]]:
    """The columns of each metric in docs/metrics.md, words in capitals standing for others."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)$", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"), re.M)
    return {name: re.findall(r"`(\w+)`", re.split(r" \| ", row)[1]) for name, row in rows}


def counted(study: str) -> tuple[str, str]:
    """Of the claims and of the controls of a study's committed results, how many were supported of how many."""
    claims = json.loads((ROOT / "experiments" / "results" / study / "summary.json").read_text("utf-8"))["claims"]
    kinds = ([one["verdict"] == "supported" for one in claims if one["kind"] == kind] for kind in ("claim", "control"))
    of_claims, of_controls = (f"{sum(verdicts)} of {len(verdicts)}" for verdicts in kinds)
    return of_claims, of_controls


def test_verdicts_in_documents_are_those_of_the_committed_results() -> None:
    readme, results = ((ROOT / path).read_text("utf-8") for path in ("README.md", "experiments/results/README.md"))
    shown = re.findall(r"\[(\w+)\]\(experiments/results/\w+/report\.md\) \| (\d+ of \d+) \|", readme)
    assert len(shown) >= 7
    assert dict(shown) == {study: counted(study)[0] for study, _ in shown}
    listed = re.findall(r"^\| \[(\w+)\]\(.*?\) \| (\d+ of \d+)[^|]* \| (\d+ of \d+)[^|]* \|", results, re.M)
    there = {path.parent.name for path in (ROOT / "experiments" / "results").glob("*/summary.json")}
    assert {study: (claims, controls) for study, claims, controls in listed} == {one: counted(one) for one in there}


def test_every_room_is_in_the_list() -> None:
    (listed,) = re.findall(r"The rooms of `dsgd/`.*?\n\n((?:\|.*\n)+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    inside = {path for path in (ROOT / "dsgd").iterdir() if not path.name.startswith(("_", "."))}
    rooms = {path.stem for path in inside if path.suffix == ".py"} | {
        f"{path.name}/" for path in inside if path.is_dir()
    }
    assert rooms <= set(re.findall(r"`([\w/]+)`", listed))


def test_every_metric_is_in_the_table_of_what_is_measured() -> None:
    assert documented().keys() == METRICS.keys()


@pytest.mark.parametrize("name", METRICS)
def test_the_table_has_the_columns_that_are_measured_and_no_others(small: Callable[..., Run], name: str) -> None:
    metrics = SMALLER.get(name, (METRICS[name](),))
    data = EmergingClasses(Digits()) if name == "drift" else Digits(train_size=64)
    task, twins = Task(data, Shards()), tuple(kind() for kind in TWINS.values())
    run = small(task=task, twins=twins, gradient=Tram(), steps=2, metrics=metrics)
    columns = dsgd.train(run).history[-1].keys() - {"step", "lr", "bytes_sent"}
    patterns = [re.sub("[A-Z]+", r"\\w+", column) for column in documented()[name]]
    assert {column for column in columns if not any(re.fullmatch(one, column) for one in patterns)} == set()
    assert {one for one in patterns if not any(re.fullmatch(one, column) for column in columns)} == set()


def test_the_gradient_is_plain_when_switched_off(small: Callable[..., Run]) -> None:
    found: dict[str, type] = {}
    exec(examples()[0], found)
    plain, off, on = (
        dsgd.train(small(**g))
        for g in ({}, {"gradient": found["GradientNorm"](0.0)}, {"gradient": found["GradientNorm"]()})
    )
    for name, leaf in plain.params.items():
        torch.testing.assert_close(off.params[name], leaf, rtol=1e-12, atol=1e-14)
    assert not all(torch.equal(on.params[name], leaf) for name, leaf in plain.params.items())


README = [
    pytest.param(example, printed, marks=[pytest.mark.slow] if printed else [])
    for example, printed in re.findall(
        r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
]


@pytest.mark.parametrize(("example", "printed"), README, ids=range(len(README)))
def test_an_example_of_the_readme_prints_what_it_says(
    example: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(example, {})
    for found, promised in zip(capsys.readouterr().out.split(), printed.split(), strict=bool(printed)):
        number = re.fullmatch(r"[\d.]+", promised)
        assert float(found) == pytest.approx(float(promised), rel=0.05) if number else found == promised


def test_what_a_backend_may_offer_is_what_is_looked_for() -> None:
    """By name, in our sources; and one backend at least offers it."""
    from dsgd.backends import BACKENDS

    (listed,) = re.findall(r"\| where it has this \|\n.*\n((?:\|.*\n)+)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    named = {name for row in listed.splitlines() for name in re.findall(r"`(\w+)", row.split("|")[1])}
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "dsgd").rglob("*.py"))
    looked_for = r'(?:has|get)attr\((?:\w+\.)*backend, "(\w+)"'
    assert {*re.findall(looked_for, sources), "train_pack", "spread"} == named
    assert all(any(hasattr(backend, name) for backend in BACKENDS.values()) for name in named)


def test_the_study_answers(tmp_path: Path) -> None:
    (tmp_path / "momentum.py").write_text(examples()[1])
    summary = conduct(
        find_study(str(tmp_path / "momentum.py")), "smoke", out=tmp_path / "out", backend=LocalBackend("cpu")
    )
    assert summary["claims"][0]["estimate"] > 1.5
    assert "times as far apart" in summary["answer"]


def test_the_numbers_of_the_choice_of_a_topology_are_those_of_the_study() -> None:
    """Each row of docs/choosing.md is in the committed report, which has more columns and rows."""

    def tables(path: str, first: str) -> list[dict[str, str]]:
        lines = re.findall(rf"^\| {first} \|.*\n(?:\|.*\n)+", (ROOT / path).read_text("utf-8"), re.M)[0].splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]

    chosen = tables("docs/choosing.md", "graph")
    found = tables("experiments/results/topology_comparison/report.md", "graph \\| weights")
    assert len(chosen) >= 9
    for row in chosen:
        assert any(row.items() <= one.items() for one in found), row
