"""The ensemble that a run left in its folder is judged as the run itself would have judged it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from dsgd.cli.finished import finished_run, recalibrated
from tests.test_running_statistics import statistics_of, torchs

if TYPE_CHECKING:
    from tests.conftest import Dsgd

SMALL = ["task=digits", "task.train_size=128", "model.widths=[6]", "topology.n=4", "steps=6", "batch_size=8", "seed=2"]
NORMALISED = [*SMALL, "model.norm=batch"]


@pytest.mark.parametrize("kind", ["random", "eigenvectors", "replicas"])
def test_a_landscape_is_the_recalibrated_runs_own(dsgd_command: Dsgd, kind: str) -> None:
    metric = f"metrics=[{{name: landscape, kind: {kind}, points: 3, examples: 64}}]"
    assert dsgd_command("run", *NORMALISED, "running_statistics=recalibrate", metric, "--out", "here")[0] == 0
    row = json.loads(Path("here/metrics.jsonl").read_text().splitlines()[-1])
    options = ["--kind", kind, "--points", "3", "--examples", "64", "--out", "a.svg", "--json"]
    found = json.loads(dsgd_command("landscape", "here", *options)[1])
    assert found["at"] == pytest.approx(row[f"landscape_{kind}_at"], rel=1e-5)
    assert found["loss"] == pytest.approx(row[f"landscape_{kind}_loss"], rel=1e-5)
    assert found["batch_norm"] == "statistics recalibrated on 128 training examples"


def test_whatever_statistics_the_run_had_the_landscape_is_recalibrated(dsgd_command: Dsgd) -> None:
    losses = []
    for policy in ("local", "mix", "recalibrate"):
        assert dsgd_command("run", *NORMALISED, f"running_statistics={policy}", "--out", policy)[0] == 0
        found = json.loads(dsgd_command("landscape", policy, "--points", "3", "--out", "a.svg", "--json")[1])
        losses.append(found["loss"])
    assert losses[0] == losses[1] == losses[2]


def test_the_replicas_have_torchs_statistics_of_the_training_examples(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *NORMALISED, "dtype=float64", "--out", "here")[0] == 0
    snapshot, _ = recalibrated(finished_run(Path("here"))[1])
    assert snapshot.statistics is not None
    module = torchs(snapshot.network.module)
    for layer in module:
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 1.0
    mean = snapshot.params.matrix.mean(dim=0)
    judged = snapshot.judged()
    rows = [*zip(snapshot.params.matrix, judged.replicas.matrix, strict=True), (mean, judged.mean.matrix[0])]
    for row, found in rows:
        with torch.no_grad():
            for name, leaf in snapshot.network.layout.leaves(row).items():
                module.get_parameter(name).copy_(leaf)
            module(snapshot.train.x)
        torch.testing.assert_close(found[: len(row)], row, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found[len(row) :], statistics_of(module), rtol=1e-10, atol=1e-12)


def test_a_probe_says_what_it_is_normalised_by(dsgd_command: Dsgd) -> None:
    """By the statistics of its own examples: the same numbers as the run's own metric."""
    metric = "metrics=[{name: equivalence, probe_size: 32, every: 0}]"
    assert dsgd_command("run", *NORMALISED, metric, "--out", "here")[0] == 0
    row = json.loads(Path("here/metrics.jsonl").read_text().splitlines()[-1])
    found = json.loads(dsgd_command("probe", "here", "--probe-size", "32", "--json")[1])
    assert found["batch_norm"] == "statistics of the 32 examples of the probe, as in training"
    assert found["residual"] == pytest.approx(row["equivalence_residual"], rel=1e-5)


def test_without_batch_normalisation_nothing_is_said_of_it(dsgd_command: Dsgd) -> None:
    assert dsgd_command("run", *SMALL, "--out", "here")[0] == 0
    for command in (["probe", "here"], ["landscape", "here", "--points", "3", "--out", "a.svg"]):
        status, out, _ = dsgd_command(*command)
        assert (status, "batch_norm" in out) == (0, False)


def test_a_kinked_networks_draws_are_those_of_the_runs_seed(dsgd_command: Dsgd) -> None:
    metric = "metrics=[{name: equivalence, probe_size: 32, pairs: 256, every: 0}]"
    assert dsgd_command("run", *SMALL, "model.activation=relu", metric, "--out", "here")[0] == 0
    row = json.loads(Path("here/metrics.jsonl").read_text().splitlines()[-1])
    found = json.loads(dsgd_command("probe", "here", "--probe-size", "32", "--json")[1])
    assert found["residual"] == pytest.approx(row["equivalence_residual"], rel=1e-5)
