"""Every command answers on stdout, says what is wrong in a line on stderr, and leaves nothing when it refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from dsgd import cli
from dsgd.cli import machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd

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
    "too much memory for one replica": (["model.widths=[1000000,1000000]"], "the run needs about .* GB of memory"),
    "unknown leaf": (
        ["optimizer={name: projected_sgd, leaves: [gone]}"],
        "^optimizer: leaves has gone, but those of the model are 1.weight, ",
    ),
    "no layer to adapt": (["gradient={name: rsgs, adapts: normalisation}"], "^gradient: adapts .*no normalisation"),
    "tokens of no text": (
        ["model=transformer", "task={name: xor, dimension: 6}"],
        "^model: transformer reads tokens, .* and the inputs of task xor are others; use it with the task text",
    ),
    "one example": (
        [
            *("task=no_data", "model=quadratic", "batch_size=full"),
            "gradient={name: weight_diversity, source: stationary}",
        ],
        "^batch_size: full, of 1 example; the gradient method or the model needs 2",
    ),
    "one example for all": (
        [
            *("task=no_data", "model=quadratic", "batch_size=full"),
            "twins=[{name: average_direction_sam, source: stationary}]",
        ],
        "^batch_size: full, of 1 example; the twin average_direction_sam needs 2",
    ),
    "one example for a twin": (
        [
            *("topology={graph: ring, n: 1}", "batch_size=1"),
            "twins=[{name: average_direction_sam, source: stationary}]",
        ],
        "^batch_size: 1, of 1 example; the twin average_direction_sam needs 2",
    ),
    "points without end": (["metrics=[{name: landscape, points: 100000}]"], r"^metrics\[0\].points: 100000; .*at most"),
    "draws without end": (
        ["metrics=[{name: sharpness, samples: 100000}]"],
        r"samples: 100000; it must be at most 10000",
    ),
    "more numbers than there are": (["task={name: xor, dimension: 1000000}"], "dimension.* at most 67108864 numbers"),
    "a landscape too large": (
        ["task=no_data", "model={name: quadratic, dimension: 1000000000}", "batch_size=full"],
        "^model.dimension: 1000000000; it must be at most 67108864",
    ),
    "layers without end": (
        ["task={name: text, train_size: 100, test_size: 50}", "model={name: transformer, depth: 5000}"],
        "^model.depth: 5000; it must be at most 1000 blocks",
    ),
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


def test_what_is_unexpected_is_one_line_unless_debugging(dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(machine, "checkup", broken)
    assert dsgd_command("doctor") == (1, "", "RuntimeError: two lines (DSGD_DEBUG=1 shows the traceback)\n")
    monkeypatch.setenv("DSGD_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        cli.main(["doctor"])


def test_no_command_prints_the_help(dsgd_command: Dsgd) -> None:
    status, out, _ = dsgd_command()
    assert (status, out.startswith("Usage: dsgd")) == (0, True)
