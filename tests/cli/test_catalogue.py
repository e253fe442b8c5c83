"""`dsgd topology` and `dsgd list` show what there is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from dsgd.cli.catalogue import TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd


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


def test_runs_and_studies_are_listed_elsewhere(dsgd_command: Dsgd) -> None:
    told = "TABLE: runs are not what a configuration names; dsgd runs lists the runs of a folder\n"
    assert dsgd_command("list", "runs") == (2, "", told)
