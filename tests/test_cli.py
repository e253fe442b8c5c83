"""Every command answers on stdout, says what is wrong in a line on stderr, and leaves nothing when it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import dsgd
from dsgd import cli, study
from dsgd.cli import machine, progress
from dsgd.cli.catalogue import TABLES
from dsgd.config import load_config
from dsgd.metrics import Landscape, Snapshot, Split
from dsgd.results import read_ensemble
from dsgd.simulation import check, start_network
from dsgd.trees import stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd

SMALL = [
    "task=digits",
    "task.train_size=128",
    "model.widths=[4]",
    "topology.n=4",
    "steps=4",
    "measure_every=2",
    "batch_size=4",
]
ROW = (
    "step",
    "train_loss_mean_model",
    "test_loss_mean_model",
    "test_accuracy_mean_model",
    "test_accuracy_replicas_mean",
    "test_accuracy_replicas_worst",
    "consensus_distance",
    "trace_xi",
    "bytes_sent",
)


REFUSED = {
    "disconnected": (["topology.graph=two.edgelist"], "disconnected, .* components are {0, 1}, {2, 3}"),
    "not doubly stochastic": (
        ["topology.n=2", "topology.weights=sums.json"],
        "not doubly stochastic: row 0 sums to 1.1",
    ),
    "wrong sparsity": (["topology={graph: path, n: 3, weights: off.json}"], "the graph has no edge from 2 to 0"),
    "NaN": (["learning_rate.lr=.nan"], "learning_rate.lr: .nan given; numbers must be finite"),
    "NaN in words": (["learning_rate.lr=nan"], "learning_rate.lr: 'nan' given; allowed is a finite number"),
    "unknown key": (["modle=mlp"], "modle: unknown key; .*did you mean model"),
    "n = 0": (["topology.n=0"], "topology.n: .*n = 0"),
    "impossible n": (["topology={graph: hypercube, n: 20}"], "topology.n: .*the nearest possible n is 16"),
    "batch above the shard": (["task.partition=shards", "batch_size=90"], "batch_size: 90 .*shard"),
    "missing data": (["task=fashion_mnist"], "task: .*train-images-idx3-ubyte.*make data"),
    "missing replay": (
        ["gradient={name: weight_diversity, source: {name: replay, run: gone}}"],
        "gradient.source: gone holds no snapshots",
    ),
    "model too deep for the images": (["model={name: cnn, channels: [1, 1, 1, 1]}"], "model: .* too often for 8 x 8"),
    "missing weights": (["model={name: resnet18, weights: gone.safetensors}"], "gone.safetensors: no such file"),
    "unknown device": (["backend.device=tpu"], "backend.device: tpu; allowed are auto, cpu, cuda"),
    "checkpoints": (["checkpoint_every=-5"], "checkpoint_every: -5 given; it must be at least 0"),
    "a full disk": (["on_full_disk=wait"], "on_full_disk: 'wait' is unknown; allowed are continue, stop"),
    "too much memory": (
        ["topology.n=1000000", "model.widths=[10000]"],
        "the run needs about .* GB of memory and .* GB",
    ),
}


@pytest.mark.parametrize(("overrides", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(
    dsgd_command: Dsgd, tmp_path: Path, overrides: list[str], expected: str
) -> None:
    (tmp_path / "two.edgelist").write_text("0 1\n2 3\n")
    (tmp_path / "sums.json").write_text("[[0.5, 0.6], [0.5, 0.4]]")
    (tmp_path / "off.json").write_text("[[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]")
    before = sorted(tmp_path.iterdir())
    status, out, err = dsgd_command("run", "task=digits", *overrides, "--json")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(expected, err)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", "run.yaml: an empty file"), ("- a", "run.yaml: a list at the top level"), ("task: [", "not valid YAML")],
)
def test_a_file_that_is_no_configuration_is_refused(
    dsgd_command: Dsgd, tmp_path: Path, content: str, expected: str
) -> None:
    (tmp_path / "run.yaml").write_text(content)
    status, out, err = dsgd_command("run", "run.yaml")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "dsgd: Missing argument"),
        (["run", "--foo"], "dsgd: No such option"),
        (["rum"], "dsgd: No such command"),
        (["run", "gone.yaml"], "gone.yaml: no such file"),
        (["run", "task=digits", "--device", "tpu"], "backend.device: tpu"),
        (["study", "equivalenz"], "there is no study 'equivalenz'; allowed are"),
        (["study", "equivalence", "--preset", "huge"], "no preset 'huge'; allowed are"),
        (["study", "equivalence", "--device", "tpu"], "backend.device: tpu; allowed are"),
        (["study", "equivalence", "backend=rya"], "backend: .*rya.*allowed are local, processes, ray"),
        (["study", "equivalence", "backend=ray", "backend.actor=2"], "backend.actor: unknown key"),
        (["probe", "gone"], "gone: no such folder; give the folder of a finished run"),
        (["probe", "."], r"^\. is not the folder of a finished run: it lacks config.yaml and ensemble.safetensors$"),
        (["landscape", "gone", "--out", "a.svg"], "^gone: no such folder; give the folder of a finished run$"),
        (["landscape", ".", "--out", "a.svg"], r"^\. is not the folder of a finished run: it lacks config.yaml and"),
        (["landscape", "gone", "--out", "a.png"], "^--out: a.png does not end in .svg; give a name that does$"),
        (["landscape", "gone", "--out", "b/a.svg"], "^--out: b is not a folder; make it first$"),
        (["landscape", "gone", "--out", "a.svg", "--kind", "valley"], "^--kind: valley; allowed are random, eig"),
        (["landscape", "gone", "--out", "a.svg", "--points", "1"], "^--points: 1; it must be at least 2$"),
        (["landscape", "gone", "--out", "a.svg", "--reach", "0"], "^--reach: 0.0; it must be above 0 and finite$"),
        (["landscape", "gone", "--out", "a.svg", "--examples", "0"], "^--examples: 0; it must be at least 1$"),
        (["landscape", "gone"], "dsgd: Missing option '--out'"),
        (["list", "grafs"], "TABLE: 'grafs' is unknown; .*did you mean graphs"),
        (["topology", "show", "rng", "-n", "4"], "topology.graph: 'rng' is unknown; .*did you mean ring"),
        (["topology", "show", "ring"], "-n: missing; give the number of nodes"),
        (["topology", "show", "ring", "-n", "0"], "topology.n: .*n = 0"),
        (["topology", "show", "ring", "-n", "x"], "dsgd: Invalid value for '-n'"),
        (["topology", "show", "ring", "-n", "4", "-p", "p=1"], "topology.graph.p: unknown key"),
        (["topology", "show", "erdos_renyi", "-n", "4", "-p", "p"], "'p': not an override"),
        (["topology", "show", "ring", "-n", "4", "--plot", "ring.bmp"], "--plot: ring.bmp does not end in .svg"),
        (["topology", "show", "ring", "-n", "4", "--plot", "b/a.svg"], "^--plot: b is not a folder; make it first$"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    dsgd_command: Dsgd, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    status, out, err = dsgd_command(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(expected, err)
    assert not list(tmp_path.iterdir())


def test_a_run_prints_its_summary_alone_as_json(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "--out", "here", "--json")
    summary = json.loads(out)
    assert (status, summary["status"], summary["run_dir"], summary["steps"]) == (0, "ok", "here", 4)
    assert summary["seconds"] > 0
    assert summary["replica_steps_per_second"] == pytest.approx(16 / summary["seconds"])
    assert set(ROW) <= set(summary["metrics"])
    assert summary["metrics"]["step"] == 4
    assert "step 4/4" in err
    assert {"config.yaml", "metrics.jsonl", "events.jsonl", "env.json", "summary.json"} <= {
        path.name for path in (tmp_path / "here").iterdir()
    }
    assert load_config("here/config.yaml") == load_config("here/config.yaml", SMALL)


def test_a_run_has_a_folder_of_its_own_and_a_table(dsgd_command: Dsgd, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text("task: digits\n")
    status, out, _ = dsgd_command("run", "tiny.yaml", *SMALL[1:])
    (folder,) = (tmp_path / "runs").iterdir()
    assert (status, folder.name.startswith("tiny-")) == (0, True)
    assert f"run_dir                       runs/{folder.name}" in out
    assert "test_accuracy_replicas_worst" in out


@pytest.mark.parametrize("taken", ["full", "file", "link"])
def test_a_folder_that_is_taken_is_refused(dsgd_command: Dsgd, tmp_path: Path, taken: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    (tmp_path / "file").write_text("keep")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    status, out, err = dsgd_command("run", *SMALL, "--out", taken)
    assert (status, out) == (2, "")
    assert err.startswith(f"--out: {taken} is ")


def test_a_dry_run_prints_a_configuration_and_trains_nothing(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, _ = dsgd_command("run", *SMALL, "--dry-run")
    (tmp_path / "resolved.yaml").write_text(out)
    assert status == 0
    assert load_config("resolved.yaml") == load_config("resolved.yaml", SMALL)
    status, out, err = dsgd_command("run", "resolved.yaml", "--dry-run", "--json")
    assert (status, err, json.loads(out)["topology"]["n"]) == (0, "", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["resolved.yaml"]


def test_a_run_that_diverges_fails_with_a_sentence(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("run", *SMALL, "learning_rate.lr=1e38", "--out", "here", "--json")
    summary = json.loads(out)
    assert (status, summary["status"]) == (1, "failed")
    assert json.loads((tmp_path / "here" / "summary.json").read_text()) == summary
    assert "not finite after" in err.splitlines()[-1]
    assert "lower learning_rate.lr" in err.splitlines()[-1]


def test_a_table_says_of_which_step_its_metrics_are(dsgd_command: Dsgd) -> None:
    assert "metrics_as_of_step" not in dsgd_command("run", *SMALL)[1]
    status, out, _ = dsgd_command("run", *SMALL, "learning_rate.lr=1e38")
    assert status == 1
    assert re.search(r"metrics_as_of_step +\d\n", out)


def test_a_table_tells_of_the_twins(dsgd_command: Dsgd) -> None:
    _, out, _ = dsgd_command("run", *SMALL, "twins=[average_direction_sam, centralized]")
    names = [line.split()[0] for line in out.splitlines()]
    for twin in ("average_direction_sam", "centralized"):
        assert {f"{twin}_test_accuracy", f"{twin}_distance"} <= set(names)
    assert len(names) == len(set(names))


def test_what_is_unexpected_is_one_line_unless_debugging(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(machine, "checkup", broken)
    assert dsgd_command("doctor") == (1, "", "RuntimeError: two lines (DSGD_DEBUG=1 shows the traceback)\n")
    monkeypatch.setenv("DSGD_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        cli.main(["doctor"])


def test_an_interrupted_run_exits_130_and_says_where_it_is(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsgd.cli", "run", *SMALL, "steps=1000000", "--out", "here"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics, waited = tmp_path / "here" / "metrics.jsonl", time.monotonic()
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() - waited < 60:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "Traceback" not in err
    assert re.search(r"^interrupted after \d+ steps; to go on: dsgd resume here$", err, re.M)
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["status"] == "interrupted"


def python_probe(folder: str, probe_size: int, step: int | None = None) -> dict[str, Any]:
    """`dsgd.probe` of the ensemble in a run's folder, with the loss written out."""
    run = load_config(f"{folder}/config.yaml")
    data, _ = check(run)
    network = start_network(run, data, torch.float64, torch.device("cpu"))
    x, y = torch.from_numpy(data.train.x[:probe_size]).double(), torch.from_numpy(data.train.y[:probe_size])

    def loss(leaves: Any) -> torch.Tensor:
        return cross_entropy(torch.func.functional_call(network.module, leaves, (x,)), y)

    return dsgd.probe(loss, read_ensemble(folder, step), smooth=run.model.smooth, block=1024, seed=run.seed)


def assert_same_probe(found: dict[str, Any], expected: dict[str, Any]) -> None:
    names = ("correction", "residual", "ratio", "cosine", "symmetrised_residual", "half_trace_h_xi", "trace_xi")
    assert {name: found[name] for name in names} == {name: pytest.approx(expected[name], rel=1e-6) for name in names}
    assert set(found["slopes"]) == {"correction", "residual", "symmetrised", "ratio", "one_minus_cosine", "loss_gap"}


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_probing_a_folder_equals_probing_its_ensemble(dsgd_command: Dsgd, activation: str) -> None:
    assert dsgd_command("run", *SMALL, f"model.activation={activation}", "seed=3", "--out", "here")[0] == 0
    status, out, _ = dsgd_command("probe", "here", "--probe-size", "32", "--json")
    assert status == 0
    assert_same_probe(json.loads(out), python_probe("here", 32))


def test_a_probe_prints_a_table_and_takes_a_recorded_step(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "snapshot_every=2", "--out", "here")[0] == 0
    status, _, err = dsgd_command("probe", "here", "--step", "3")
    assert (status, "does not exist" in err) == (2, True)
    status, out, _ = dsgd_command("probe", "here", "--probe-size", "32", "--step", "2", "--json")
    assert status == 0
    assert_same_probe(json.loads(out), python_probe("here", 32, step=2))
    assert "half_trace_h_xi" in dsgd_command("probe", "here", "--probe-size", "32")[1]


def test_a_probe_needs_two_replicas(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "topology.n=1", "--out", "one")[0] == 0
    status, out, err = dsgd_command("probe", "one")
    assert (status, out, err) == (2, "", "one: a run of 1 replica; a probe compares replicas and needs at least 2\n")


def test_a_landscape_is_drawn_into_a_file_that_stands_alone(dsgd_command: Dsgd, tmp_path: Path) -> None:
    assert dsgd_command("run", *SMALL, "snapshot_every=2", "--out", "here")[0] == 0
    config, leaves = load_config("here/config.yaml"), read_ensemble("here", 2)
    data, _ = check(config)
    network = start_network(config, data, torch.float64, torch.device("cpu"))
    params = stack({name: leaves[name] for name in network.layout.names})
    train = Split(torch.from_numpy(data.train.x), torch.from_numpy(data.train.y))
    for kind in ("random", "eigenvectors", "replicas"):
        options = ["--kind", kind, "--step", "2", "--points", "5", "--examples", "64", "--reach", "0.5"]
        status, out, err = dsgd_command("landscape", "here", *options, "--out", f"{kind}.svg", "--json")
        assert (status, err) == (0, f"drawn: {kind}.svg\n")
        found = json.loads(out)
        assert (found["step"], found["n"], found["examples"], found["reach"]) == (2, 4, 64, 0.5)
        measured = Landscape(kind, points=5, reach=0.5, examples=64)(Snapshot(2, params, network, train, train))
        named = {name.removeprefix(f"landscape_{kind}_"): value for name, value in measured.items()}
        assert {name: found[name] for name in named} == {name: pytest.approx(named[name]) for name in named}
        assert (found["loss_least"], found["loss_greatest"]) == (min(found["loss"]), max(found["loss"]))
        drawn = (tmp_path / f"{kind}.svg").read_text()
        assert "prefers-color-scheme: dark" in drawn
        assert (">replicas</text>" in drawn) == (kind != "random")
        assert ">Landscape of here, step 2</title>" in drawn
        assert str(tmp_path) not in drawn


def test_a_landscape_prints_its_facts_and_says_what_no_plane_shows(dsgd_command: Dsgd, tmp_path: Path) -> None:
    assert dsgd_command("run", *SMALL, "topology.n=2", "--out", "two")[0] == 0
    status, out, err = dsgd_command("landscape", "two", "--kind", "replicas", "--out", "a.svg")
    expected = "--kind: no plane of replicas for the 2 replicas in two; take --kind random\n"
    assert (status, out, err) == (2, "", expected)
    assert dsgd_command("landscape", "two", "--step", "3", "--out", "a.svg")[0] == 2
    (tmp_path / "folder.svg").mkdir()
    status, out, err = dsgd_command("landscape", "two", "--points", "3", "--out", "folder.svg")
    assert (status, out, err) == (2, "", "--out: folder.svg cannot be written: Is a directory\n")
    assert {path.name for path in tmp_path.iterdir()} == {"two", "folder.svg"}
    status, out, err = dsgd_command("landscape", "two", "--points", "3", "--out", "a.svg")
    assert (status, err) == (0, "drawn: a.svg\n")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["run_dir", "step", "n", "kind", "examples", "reach", "loss_least", "loss_greatest"]


def test_topology_shows_the_facts(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, err = dsgd_command("topology", "show", "ring", "-n", "16", "--json")
    found = json.loads(out)
    assert (status, err, found["n"], found["edges"], found["weights"]) == (0, "", 16, 16, "metropolis_hastings")
    assert found["spectral_gap"] == pytest.approx(0.0507, abs=1e-4)
    assert set(found["stationary_consensus"]) == {"consensus", "adapt_then_combine"}
    assert "spectral_gap" in dsgd_command("topology", "show", "ring", "-n", "16")[1]
    (tmp_path / "two.edgelist").write_text("0 1\n2 3\n")
    assert dsgd_command("topology", "show", "two.edgelist")[0] == 2
    status, out, _ = dsgd_command("topology", "show", "two.edgelist", "--allow-disconnected", "--json")
    assert (status, json.loads(out)["mixing_time"]) == (0, None)


def test_topology_takes_knobs_and_draws(dsgd_command: Dsgd, tmp_path: Path) -> None:
    arguments = ["topology", "show", "watts_strogatz", "-n", "12", "-p", "k=2", "-p", "p=0.5", "--seed", "3"]
    status, out, _ = dsgd_command(*arguments, "--plot", "graph.svg", "--json")
    assert (status, json.loads(out)["edges"]) == (0, 12)
    assert (tmp_path / "graph.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("table", "name", "knob"),
    [
        ("graphs", "random_regular", "degree=4"),
        ("weights", "metropolis_hastings", ""),
        ("schedules", "periodic", "inner every"),
        ("gradients", "random_direction", "rho=0.05 samples=1"),
        ("algorithms", "adapt_then_combine", ""),
        ("models", "mlp", "widths=[64, 32] activation=tanh"),
        ("tasks", "digits", "train_size=null"),
        ("partitions", "dirichlet", "alpha=0.5"),
        ("optimizers", "sgd", "momentum=0.0 nesterov=false"),
        ("learning_rates", "cosine", "lr=0.1"),
        ("metrics", "equivalence", "probe_size=512"),
        ("metrics", "landscape", "points=31"),
        ("landscapes", "random", "Filter-normalised"),
        ("sources", "replay", "run"),
    ],
)
def test_every_table_is_listed_with_its_knobs(dsgd_command: Dsgd, table: str, name: str, knob: str) -> None:
    status, out, _ = dsgd_command("list", table)
    (line,) = (line for line in out.splitlines() if line.split()[0] == name)
    assert (status, knob in line) == (0, True)
    entries = {entry["name"]: entry for entry in json.loads(dsgd_command("list", table, "--json")[1])}
    assert entries[name]["summary"]


def test_studies_are_listed(dsgd_command: Dsgd) -> None:
    found = json.loads(dsgd_command("studies", "--json")[1])
    assert all(set(study) == {"question", "takes"} for study in found.values())
    lines = dsgd_command("studies")[1].splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("equivalence "))
    assert "Is D-SGD" in lines[at]
    assert re.match(r" +smoke \d+ seconds[,;] standard \d+ minutes", lines[at + 1])


def test_a_list_of_nothing_names_the_tables(dsgd_command: Dsgd) -> None:
    status, out, _ = dsgd_command("list")
    assert (status, len(out.splitlines())) == (0, len(TABLES))
    assert "weights         auto, metropolis_hastings, " in out
    assert json.loads(dsgd_command("list", "--json")[1])["tasks"] == list(TABLES["tasks"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", "mine.py cannot be loaded: SyntaxError: "),
        ("import gone", "mine.py cannot be loaded: ModuleNotFoundError: No module named 'gone'"),
        ("question = 'x'", "mine.py is not a study: it lacks presets, runs, report"),
        (
            "question, presets, runs, report = 'x', {'smoke': 1}, print, print",
            "preset smoke of study mine must be a dataclass with the fields seeds and seed",
        ),
    ],
)
def test_a_broken_study_is_one_line(dsgd_command: Dsgd, tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    status, out, err = dsgd_command("study", "./mine.py")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


SUMMARY = {
    "study": "sums",
    "preset": "smoke",
    "answer": "It adds.\n\nTwice.",
    "claims": [
        {"name": "it adds", "kind": "claim", "estimate": 2.0, "ci": [1.5, 2.5], "criterion": "2", "verdict": "refuted"}
    ],
}


def test_a_study_exits_0_whatever_its_verdicts(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*_: Any, progress: Any, **__: Any) -> dict[str, Any]:
        progress(0, 1, "first", None)
        progress(1, 1, "", 0.0)
        return SUMMARY

    monkeypatch.setattr(study, "conduct", conduct)
    status, out, err = dsgd_command("study", "equivalence", "--json")
    assert (status, json.loads(out)) == (0, SUMMARY)
    assert err.splitlines() == ["run 0/1  first", "run 1/1  0 s left"]
    status, out, _ = dsgd_command("study", "equivalence")
    assert out.splitlines() == [
        "refuted  claim  it adds  2.00  [1.50, 2.50]",
        "",
        "0 of 1 claim supported (1 refuted).",
        "",
        "It adds.",
        "",
        "Twice.",
        "",
        "report: runs/study-equivalence-standard/report.html",
    ]
    status, out, _ = dsgd_command("study", "equivalence", "--seed", "7")
    assert out.splitlines()[-1] == "report: runs/study-equivalence-standard-seed-7/report.html"


def test_settings_of_a_study_are_changed_by_name(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def conduct(*_: Any, **how: Any) -> dict[str, Any]:
        seen.update(how)
        return SUMMARY

    monkeypatch.setattr(study, "conduct", conduct)
    words = ("n=9", "lrs=[0.1, 0.2]", "rough={name: mlp, widths: [4], activation: relu}", "data=digits")
    assert dsgd_command("study", "equivalence", *words)[0] == 0
    assert seen["words"] == list(words)
    assert seen["changes"]["n"] == 9
    assert seen["changes"]["lrs"] == (0.1, 0.2)
    assert repr(seen["changes"]["rough"]) == "Mlp(widths=(4,), activation='relu', norm='none', init='uniform')"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("m=9", r"m: unknown key; .*n"),
        ("n=nine", "n: 'nine'"),
        ("n", "'n': not an override"),
        ("seeds=0", "seeds: 0; it must be at least 1"),
        ("rough=gelu", "rough: 'gelu' is unknown"),
    ],
)
def test_a_change_that_is_none_is_refused(dsgd_command: Dsgd, word: str, message: str) -> None:
    status, out, err = dsgd_command("study", "equivalence", word)
    assert (status, out) == (2, "")
    assert re.search(message, err), err


def test_a_study_whose_run_failed_exits_1(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*_: Any, **__: Any) -> dict[str, Any]:
        raise study.StudyError("run 'ring' failed")

    monkeypatch.setattr(study, "conduct", conduct)
    assert dsgd_command("study", "equivalence")[::2] == (1, "failed: run 'ring' failed\n")


def test_the_doctor_reports_and_changes_nothing(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, _ = dsgd_command("doctor", "--json")
    found = json.loads(out)
    assert (status, found["data"]["digits"], found["runs_writable"]) == (0, "found", True)
    assert "make data" in found["data"]["fashion_mnist"]
    assert found["packages"]["torch"] == torch.__version__
    assert not list(tmp_path.iterdir())
    assert "packages.torch" in dsgd_command("doctor")[1]


@pytest.mark.parametrize(
    ("version", "warns"), [("2.6.0", False), ("2.13.1+cpu", False), ("2.14.0", True), ("3.0.0a1", True)]
)
def test_a_newer_torch_is_warned_about_and_not_refused(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch, version: str, warns: bool
) -> None:
    monkeypatch.setattr(machine, "installed", lambda package: version)
    status, _, err = dsgd_command("run", *SMALL, "steps=1")
    assert status == 0
    assert err.count("is newer than any that dsgd was tested with (torch<2.14,>=2.6)") == warns


def test_without_its_package_s_metadata_dsgd_asks_for_any_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "requires", lambda package: None)
    assert machine.torch_warning() is None
    monkeypatch.setattr(machine, "installed", lambda package: None)
    assert machine.torch_warning() == "torch is not installed: pip install 'torch'"


def test_no_command_prints_the_help(dsgd_command: Dsgd) -> None:
    status, out, _ = dsgd_command()
    assert (status, out.startswith("Usage: dsgd")) == (0, True)


def test_plain_lines_come_now_and_then_and_at_the_end() -> None:
    now = [0.0]
    said: list[str] = []

    def clock() -> float:
        return now[0]

    meter = progress.Meter(100, progress.lines(100, said.append, clock), clock)
    meter.measured({"step": 0, "test_accuracy_mean_model": 0.1, "train_loss_mean_model": None})
    for step in range(1, 101):
        now[0] = step / 8
        meter.stepped(step)
    meter.measured({"step": 100, "test_accuracy_mean_model": 0.9})
    assert said == [
        "step 40/100  8 steps/s  7.5 s left  test accuracy 0.1",
        "step 80/100  8 steps/s  2.5 s left  test accuracy 0.1",
        "step 100/100  8 steps/s  0 s left  test accuracy 0.9",
    ]


def test_a_terminal_gets_a_live_line_without_colour_where_asked(tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "dsgd.cli", "run", *SMALL, "--json"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, env=environment, check=True)
    os.close(follower)
    seen = os.read(leader, 65536).decode()
    assert json.loads(done.stdout)["status"] == "ok"
    assert "steps/s" in seen
    assert "\x1b[3" not in seen
