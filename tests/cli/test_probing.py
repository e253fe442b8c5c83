"""`dsgd probe` and `dsgd landscape` look at the ensemble of a finished run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import cross_entropy

import dsgd
from dsgd.config import load_config
from dsgd.metrics import Landscape, Snapshot, Split
from dsgd.results import read_ensemble
from dsgd.simulation import check
from dsgd.starts import start_network
from dsgd.trees import stack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd
from tests.cli.small import SMALL


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
