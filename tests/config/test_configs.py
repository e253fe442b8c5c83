"""A configuration is read back as it was written, and whatever is wrong with one is said in a line each."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dsgd.backends import BACKENDS
from dsgd.config import ConfigError, load, parse, read, resolved
from dsgd.config.overrides import with_overrides
from dsgd.config.parts import TABLES
from dsgd.data import (
    PARTITIONS,
    Digits,
    Dirichlet,
    EmergingClasses,
    HeldOut,
    InputNoise,
    LabelNoise,
    LongTail,
    Text,
)
from dsgd.gossip import GOSSIPS, Adaptive, Once, Partial, Phases, Repeated, Until
from dsgd.gradients import GRADIENTS, SOURCES
from dsgd.gradients.sources import Stationary
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.learning_rates import LEARNING_RATES, Multistep
from dsgd.metrics import METRICS, Accuracy, Consensus, Drift, Equivalence, Perplexity, Uncertainty
from dsgd.models import MODELS, Quadratic
from dsgd.optimizers import OPTIMIZERS
from dsgd.pretraining import PRETRAININGS, Pretrained
from dsgd.run import TWINS, Run
from dsgd.tasks import TASKS, Task
from dsgd.yaml_values import read_text, to_text
from topologies import GRAPHS, SCHEDULES, WEIGHTS, OnePeerExponential, Periodic, Permuted, Static, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RING = Topology("ring", 8)


def problems(config: Any, *overrides: str) -> tuple[str, ...]:
    given, _ = with_overrides(config, overrides)
    with pytest.raises(ConfigError) as caught:
        read(given)
    return caught.value.problems


def complete(table: Mapping[str, Any]) -> list[str]:
    """The rows that need nothing but their name: every knob has a default."""
    return [
        name
        for name, kind in table.items()
        if not any(knob.default is MISSING and knob.default_factory is MISSING for knob in fields(kind))
    ]


def every_row() -> Iterator[dict[str, Any]]:
    """A configuration for each row of each table."""
    for key, table in (("task", TASKS), ("model", MODELS), ("gradient", GRADIENTS), ("optimizer", OPTIMIZERS)):
        yield from ({"task": "digits", key: name} for name in complete(table))
    yield from ({"task": "digits", "learning_rate": name} for name in LEARNING_RATES)
    yield from ({"task": "digits", "gossip": name} for name in complete(GOSSIPS))
    yield from ({"task": "digits", "pretraining": name} for name in complete(PRETRAININGS))
    yield from ({"task": "digits", "twins": [name]} for name in TWINS)
    yield from ({"task": "digits", "metrics": [name]} for name in METRICS)
    yield from ({"task": "digits", "backend": name} for name in BACKENDS)
    yield from ({"task": {"name": "digits", "partition": name}} for name in PARTITIONS)
    yield from ({"task": "digits", "topology": {"graph": name, "n": 16}} for name in GRAPHS)
    yield from ({"task": "digits", "topology": {"weights": name}} for name in WEIGHTS)
    yield from ({"task": "digits", "topology": {"schedule": s}} for s in complete(SCHEDULES))
    sources = complete(SOURCES)
    yield from ({"task": "digits", "gradient": {"name": "weight_diversity", "source": name}} for name in sources)


RUNS = {
    "everything": Run(
        task=Task(partition=Dirichlet(alpha=0.3)),
        topology=Permuted(Topology("erdos_renyi", 12, "lazy", (("p", 0.5),), seed=3, allow_disconnected=True), seed=4),
        gradient=WeightDiversity(Stationary("grid", 9, order="adapt_then_combine"), samples=2),
        learning_rate=Multistep(milestones=(0.25, 0.5, 0.75), warmup=10),
        twins=(WeightDiversity(samples=0), TWINS["centralized"]()),
        metrics=(Equivalence(own_shards=True, every=None), Consensus(every=3), Accuracy()),
        batch_size="full",
        dtype="float64",
    ),
    "periodic": Run(topology=Periodic(Periodic(Static(RING), 2), 3)),
    "one peer": Run(topology=Periodic(OnePeerExponential(8), 4)),
    "partial": Run(gossip=Partial(0.5)),
    "repeated": Run(gossip=Repeated(3)),
    "until": Run(gossip=Until(0.01)),
    "phases": Run(gossip=Phases((Once(), Until(1.0, most=4), Adaptive(power=2.0)), (10, 20))),
    "a deep ensemble": Run(local_steps=1001, starts="own", metrics=(Uncertainty(scales=(0.5, 1.0)),)),
    "held out": Run(task=Task(HeldOut(Digits(train_size=640), 64))),
    "input noise": Run(task=Task(InputNoise(Digits(), 0.1, draw=2))),
    "label noise": Run(task=Task(LabelNoise(Digits(centred=True), 0.2, draw=3))),
    "long tail": Run(task=Task(LongTail(Digits(), 100, 0.02, split=3, test_each=20))),
    "emerging": Run(
        task=Task(EmergingClasses(Digits(split=3), base=7, order=2)),
        metrics=(Drift("one", "rsgs", rho=1.0), Drift("other", replicas=4, graph="none")),
    ),
    "pretrained": Run(pretraining=Pretrained(Digits(train_size=640), steps=5), metrics=(Perplexity((Text(),)),)),
    "lists": Run(model=Quadratic(4, (1.0, 1e-8)), twins=(), metrics=()),
    "a file": Run(topology=Static(Topology("my graph.edgelist", 5, "my weights.json"))),
}


@pytest.mark.parametrize("config", list(every_row()), ids=str)
def test_every_row_of_every_table_is_read_back_as_written(config: dict[str, Any]) -> None:
    found = read(config)
    written = read_text(to_text(resolved(found)), "config.yaml")
    assert read(written) == found
    assert parse(found.run.describe()) == found.run


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_a_run_is_read_back_as_described(run: Run) -> None:
    assert parse(run.describe()) == run
    assert parse(read_text(to_text(run.describe()), "config.yaml")) == run


def test_every_type_of_part_has_its_table() -> None:
    tables = (TASKS, PARTITIONS, MODELS, GRADIENTS, SOURCES, OPTIMIZERS, LEARNING_RATES, METRICS, GOSSIPS, PRETRAININGS)
    assert all(any(table is known for known in TABLES.values()) for table in tables)


def test_a_task_is_enough() -> None:
    assert parse({"task": "digits"}) == Run()


def test_numbers_keep_their_type() -> None:
    run = parse({"task": "digits", "learning_rate": {"lr": 1}, "steps": 7})
    assert (run.learning_rate.lr, type(run.learning_rate.lr), type(run.steps)) == (1.0, float, int)  # type: ignore[attr-defined]  # the default is Constant


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "task: missing; allowed are digits, fashion_mnist"),
        ({"task": "digitz"}, "task: 'digitz' is unknown; allowed are digits, .* \\(did you mean digits\\?\\)"),
        ({"task": {"partition": "iid"}}, "task: no name given; allowed are digits"),
        ({"task": 3}, "task: 3 given; allowed is a name, one of digits"),
        (
            {"task": "digits", "learning_rate": 0.1},
            r"learning_rate: 0.1 given; allowed is a name, one of constant.*\(did you mean learning_rate.lr=0.1\?\)$",
        ),
        ({"task": "digits", "lr": 0.1}, r"lr: unknown key; .*\(did you mean learning_rate.lr\?\)$"),
        ({"task": "digits", "n": 8}, r"n: unknown key; .*\(did you mean topology.n\?\)$"),
        ({"task": "digits", "rho": 0.1}, r"rho: unknown key; .*\(did you mean gradient.rho\?\)$"),
        ({"task": "digits", "stepz": 3}, "stepz: unknown key; allowed are task, .* \\(did you mean steps\\?\\)"),
        (
            {"task": "digits", "model": {"widht": [3]}},
            "model.widht: unknown key; allowed are widths, .*did you mean widths",
        ),
        ({"task": "digits", "gradient": {"rho": 1}}, "gradient.rho: unknown key; plain has no knobs"),
        ({"task": "digits", "steps": "3"}, "steps: '3' given; allowed is a whole number"),
        ({"task": "digits", "steps": 1e3}, "steps: 1000.0 given; allowed is a whole number"),
        ({"task": "digits", "steps": True}, "steps: true given; allowed is a whole number"),
        ({"task": "digits", "steps": 0}, "steps: 0; it must be at least 1"),
        ({"task": "digits", "optimizer": {"nesterov": 1}}, "optimizer.nesterov: 1 given; allowed is true or false"),
        ({"task": "digits", "learning_rate": {"lr": float("nan")}}, "learning_rate.lr: nan given; allowed is a finite"),
        ({"task": "digits", "learning_rate": {"lr": -1}}, "learning_rate.lr: -1.0; it must be greater than 0"),
        (
            {"task": "digits", "learning_rate": {"name": "cosine", "warmup": 30}, "steps": 30},
            "learning_rate.warmup: 30; it must be below the run's 30 steps",
        ),
        (
            {"task": "digits", "learning_rate": {"name": "multistep", "milestones": [0.8, 0.4]}},
            "learning_rate.milestones: \\[0.8, 0.4\\]; each must be greater than the one before",
        ),
        (
            {"task": "digits", "gradient": {"name": "weight_diversity", "source": {"name": "stationary", "n": 0}}},
            "gradient.source.n: ring cannot have n = 0 nodes",
        ),
        (
            {"task": "digits", "model": {"widths": ["a"]}},
            "model.widths: \\['a'\\] given; allowed is a list of whole numbers",
        ),
        ({"task": "digits", "batch_size": "all"}, "batch_size: 'all' given; allowed is a whole number or full"),
        ({"task": "digits", "algorithm": "consnsus"}, "algorithm: 'consnsus' is unknown; .*did you mean consensus"),
        (
            {"task": "digits", "gossip": "twice"},
            "gossip: 'twice' is unknown; allowed are once, adaptive, partial, repeated",
        ),
        ({"task": "digits", "gossip": {"times": 2}}, "gossip.times: unknown key; once has no knobs"),
        ({"task": "digits", "gossip": "until"}, "gossip.trace_xi: missing; give trace_xi"),
        ({"task": "digits", "gossip": {"name": "until", "trace_xi": 0}}, "gossip.trace_xi: 0.0; it must be greater"),
        ({"task": "digits", "gossip": {"name": "until", "trace_xi": 1, "most": 0}}, "gossip.most: 0; it must be at"),
        ({"task": "digits", "gossip": {"name": "partial", "share": 0}}, "gossip.share: 0.0; it must be in \\(0, 1\\]"),
        ({"task": "digits", "gossip": {"name": "repeated", "times": 0}}, "gossip.times: 0; it must be at least 1"),
        ({"task": "digits", "gossip": {"name": "adaptive", "power": -1}}, "gossip.power: -1.0; it must be at least 0"),
        ({"task": "digits", "gossip": {"name": "adaptive", "start": -1}}, "gossip.start: -1; it must be at least 0"),
        ({"task": "digits", "gossip": {"name": "adaptive", "least": 1.5}}, "gossip.least: 1.5; it must be in \\[0, 1"),
        (
            {"task": "digits", "gossip": {"name": "phases", "gossips": ["once", "onse"], "starts": [5]}},
            "gossip.gossips\\[1\\]: 'onse' is unknown; .*did you mean once",
        ),
        (
            {"task": "digits", "gossip": {"name": "phases", "gossips": ["once", "adaptive"], "starts": [5, 9]}},
            "gossip.starts: holds 2 steps for 2 gossips",
        ),
        (
            {"task": "digits", "gossip": {"name": "phases", "gossips": ["once", "once", "once"], "starts": [9, 5]}},
            "gossip.starts: \\[9, 5\\]; each must be greater than 0 and",
        ),
        (
            {"task": "digits", "gossip": "adaptive", "algorithm": "centralized"},
            "gossip: adaptive and algorithm centralized, which uses no graph",
        ),
        ({"task": "digits", "twins": "centralized"}, "twins: 'centralized' given; allowed is a list of names"),
        (
            {"task": "digits", "twins": [{"samples": 2}]},
            "twins\\[0\\]: no name given; allowed are average_direction_sam",
        ),
        ({"task": "digits", "metrics": ["accurcy"]}, "metrics\\[0\\]: 'accurcy' is unknown; .*did you mean accuracy"),
        (
            {"task": "digits", "gradient": {"name": "weight_diversity", "source": "replay"}},
            "gradient.source.run: missing",
        ),
        ({"task": "digits", "backend": "slurm"}, "backend: 'slurm' is unknown; allowed are local"),
        ({"task": "digits", "backend": {"device": "tpu"}}, "backend.device: tpu; allowed are auto, cpu, cuda"),
        ({"task": "digits", "name": "../x"}, "name: '../x' cannot name a folder"),
        ({"task": "digits", "topology": {"n": 0}}, "topology.n: .*n = 0.*nearest possible n is 1"),
        ({"task": "digits", "topology": {"n": 2**21}}, "topology.n: 2097152 is more nodes than this package builds"),
        (
            {
                "task": "digits",
                "topology": {"n": 0, "schedule": {"name": "periodic", "every": 2, "inner": "one_peer_exponential"}},
            },
            "topology.n: .*n = 0.*nearest possible n is 1",
        ),
        (
            {"task": "digits", "topology": {"schedule": {"name": "periodic", "every": 0}}},
            "topology.schedule.every: must be",
        ),
        ({"task": "digits", "topology": {"graph": "rng"}}, "topology.graph: 'rng' is unknown; .*did you mean ring"),
        ({"task": "digits", "topology": {"weights": "fast"}}, "topology.weights: 'fast' is unknown; allowed are auto"),
        ({"task": "digits", "topology": {"graph": {"name": "ring", "p": 1}}}, "topology.graph.p: unknown key; allowed"),
        ({"task": "digits", "topology": {"schedule": "periodic"}}, "topology.schedule.every: missing; give every"),
        (
            {"task": "digits", "topology": {"graph": "ring", "schedule": "one_peer_exponential"}},
            "topology.graph: given, but the schedule has a graph of its own",
        ),
    ],
    ids=str,
)
def test_a_mistake_has_its_own_line(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=f"^{expected}") as caught:
        read(config)
    assert len(caught.value.problems) == 1


def test_a_warm_up_without_end_hides_no_other_mistake() -> None:
    found = problems({"task": "digits", "learning_rate": {"name": "cosine", "warmup": 9}, "steps": 9, "seed": -1})
    assert [problem.partition(":")[0] for problem in found] == ["seed", "learning_rate.warmup"]


def test_all_mistakes_are_told_at_once() -> None:
    found = problems(
        {
            "task": {"name": "digits", "partition": {"name": "dirichlet", "alpha": -1}},
            "model": {"name": "mlp", "widths": "wide", "activation": 3},
            "topology": {"n": "many", "schedule": {"name": "periodic", "every": 0}},
            "twins": ["centralized", {"name": "average_direction_sam", "source": "replicaz"}],
            "steps": 0,
            "seed": -1,
            "backend": "locl",
            "name": 3,
        }
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "task.partition.alpha",
        "model.widths",
        "model.activation",
        "topology.n",
        "topology.schedule.every",
        "twins[1].source",
        "steps",
        "seed",
        "backend",
        "name",
    ]


def test_what_is_hostile_in_a_name_does_not_reach_the_terminal() -> None:
    (problem,) = problems({"task": "digits", "a\nb\x1b[31m\ud800": 1})
    assert problem.isprintable()


def test_a_run_is_named_after_its_file_unless_it_says(tmp_path: Path) -> None:
    path = tmp_path / "my ring.v2.yaml"
    path.write_text("\ufefftask: digits\n", encoding="utf-8")
    assert load(path).name == "my-ring.v2"
    assert load(path, ["name=other"]).name == "other"
    assert load(None, ["task=digits"]).name == "digits"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["topology.graph=two.edgelist"], "topology.graph: .*disconnected.* {0, 1}, {2, 3}"),
        (
            ["topology.graph=two.edgelist", "topology.schedule={name: periodic, every: 3}"],
            "topology.graph: .*disconnected",
        ),
        (["topology.graph=two.edgelist", "local_steps=2"], "topology.graph: .*disconnected"),
        (
            ["topology.n=2", "topology.weights=sums.json"],
            "topology.weights: .*not doubly stochastic: row 0 sums to 1.1",
        ),
        (
            ["topology={graph: path, n: 3, weights: off.json}"],
            r"topology.weights: W\[0, 2\] is 0.5, and the graph has no edge",
        ),
        (["topology={graph: two.edgelist, n: 7}"], "topology.n: .*4 nodes.*n = 7"),
        (["topology.graph=none.edgelist"], "topology.graph: .*none.edgelist"),
        (["topology={graph: hypercube, n: 6}"], "topology.n: .*n = 6.*nearest possible n is 4 or 8"),
        (["topology={graph: none.edgelist, n: 4}"], "topology.graph: no such file: none.edgelist"),
        (["topology.weights=none.json"], "topology.weights: no such file: none.json"),
        (["topology.graph={name: erdos_renyi, p: 2}"], "topology.graph.p: must be a probability"),
        (["topology.graph={name: watts_strogatz, k: 3}"], "topology.graph.k: must be even"),
        (
            ["topology.graph={name: erdos_renyi, p: 0}"],
            "topology.graph: erdos_renyi gave no connected graph .* raise p",
        ),
        (["topology={graph: weights disconnected.edgelist, n: 7}"], "topology.n: .*4 nodes.*n = 7"),
        (
            ["topology={graph: exponential, schedule: random_matching}"],
            "topology.graph: .*the graph exponential is dir",
        ),
        (["topology={weights: fdla, n: 200}"], "topology.weights: .*at most 100 nodes, and n = 200: use auto"),
        (["topology={graph: star, weights: uniform}"], "topology.weights: uniform weights need all degrees equal"),
        (["batch_size=2000"], "batch_size: 2000 "),
        (["task.partition=shards", "batch_size=100"], "batch_size: 100 .*shard"),
        (["task.partition=dirichlet", "batch_size=full"], "batch_size: Full batches need shards of one size"),
        (["task.partition={name: dirichlet, alpha: 0.001}"], "task.partition: In 100 draws with alpha=0.001"),
        (["task=no_data"], "model: task no_data has no examples; add model=quadratic, .* and batch_size=full"),
        (["model=quadratic"], "model: quadratic is a loss without data; add task=no_data .*, or take another model"),
        (["task=cifar10"], "task: .*data_batch_1.bin is in none of the folders"),
    ],
    ids=str,
)
def test_what_graph_and_data_show_has_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DSGD_DATA", raising=False)
    Path("two.edgelist").write_text("0 1\n2 3\n")
    Path("weights disconnected.edgelist").write_text("0 1\n2 3\n")
    Path("sums.json").write_text("[[0.5, 0.6], [0.5, 0.4]]")
    Path("off.json").write_text("[[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]")
    with pytest.raises(ConfigError, match=f"^{expected}") as caught:
        load(None, ["task=digits", *overrides])
    assert len(caught.value.problems) == 1


def test_a_task_without_data_runs_as_its_refusal_says() -> None:
    assert load(None, ["task=no_data", "model=quadratic", "batch_size=full"]).run.model == Quadratic()


def test_a_graph_file_says_n(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("triangle.edgelist").write_text("a b\nb c\nc a\n")
    assert load(None, ["task=digits", "topology.graph=triangle.edgelist"]).run.n == 3
