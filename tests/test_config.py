"""A configuration is read back as it was written, and whatever is wrong with one is said in a line each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.backends import BACKENDS
from dsgd.config import ConfigError, load, load_config, parse, read, resolved
from dsgd.config.overrides import with_overrides
from dsgd.config.parts import TABLES
from dsgd.data import PARTITIONS, Digits, Dirichlet, HeldOut, Text
from dsgd.gossip import GOSSIPS, Adaptive, Once, Partial, Phases, Repeated, Until
from dsgd.gradients import GRADIENTS, SOURCES
from dsgd.gradients.sources import Stationary
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.learning_rates import LEARNING_RATES, Multistep
from dsgd.metrics import METRICS, Accuracy, Consensus, Equivalence, Perplexity, Uncertainty
from dsgd.models import MODELS, Quadratic
from dsgd.optimizers import OPTIMIZERS
from dsgd.pretraining import PRETRAININGS, Pretrained
from dsgd.run import TWINS, Run
from dsgd.tasks import TASKS, Task
from dsgd.yaml_values import MAX_BYTES, MAX_DEPTH, read_text, to_text
from topologies import GRAPHS, SCHEDULES, WEIGHTS, OnePeerExponential, Periodic, Permuted, Static, Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

RING = Topology("ring", 8)
NEEDS_MORE = (
    "replay",
    "periodic",
    "partial",
    "repeated",
    "until",
    "phases",
    "held_out",
    "pretrained",
)  # rows with a knob that has no default


def problems(config: Any, *overrides: str) -> tuple[str, ...]:
    given, _ = with_overrides(config, overrides)
    with pytest.raises(ConfigError) as caught:
        read(given)
    return caught.value.problems


def problems_or_run(config: Any) -> tuple[str, ...] | Run:
    try:
        return parse(config)
    except ConfigError as error:
        return error.problems


def every_row() -> Iterator[dict[str, Any]]:
    """A configuration for each row of each table."""
    for key, table in (("task", TASKS), ("model", MODELS), ("gradient", GRADIENTS), ("optimizer", OPTIMIZERS)):
        yield from ({"task": "digits", key: name} for name in table if name not in NEEDS_MORE)
    yield from ({"task": "digits", "learning_rate": name} for name in LEARNING_RATES)
    yield from ({"task": "digits", "gossip": name} for name in GOSSIPS if name not in NEEDS_MORE)
    yield from ({"task": "digits", "pretraining": name} for name in PRETRAININGS if name not in NEEDS_MORE)
    yield from ({"task": "digits", "twins": [name]} for name in TWINS)
    yield from ({"task": "digits", "metrics": [name]} for name in METRICS)
    yield from ({"task": "digits", "backend": name} for name in BACKENDS)
    yield from ({"task": {"name": "digits", "partition": name}} for name in PARTITIONS)
    yield from ({"task": "digits", "topology": {"graph": name, "n": 16}} for name in GRAPHS)
    yield from ({"task": "digits", "topology": {"weights": name}} for name in WEIGHTS)
    yield from ({"task": "digits", "topology": {"schedule": s}} for s in SCHEDULES if s not in NEEDS_MORE)
    sources = [name for name in SOURCES if name not in NEEDS_MORE]
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
        ({"task": "digits", "stepz": 3}, "stepz: unknown key; allowed are task, .* \\(did you mean steps\\?\\)"),
        (
            {"task": "digits", "model": {"widht": [3]}},
            "model.widht: unknown key; allowed are widths, .*did you mean widths",
        ),
        ({"task": "digits", "gradient": {"rho": 1}}, "gradient.rho: unknown key; none is allowed"),
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
        ({"task": "digits", "gossip": {"times": 2}}, "gossip.times: unknown key; none is allowed"),
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


def test_overrides_open_bare_names_in_order() -> None:
    overrides = ["task=digits", "task.partition=by_label", "task.partition.labels_per_replica=3", "model.widths=[3,4]"]
    overrides += ["topology.graph=erdos_renyi", "topology.graph.p=.5", "gradient=random_direction", "gradient.rho=1e-3"]
    run = load(None, overrides).run
    assert run.task.partition == PARTITIONS["by_label"](labels_per_replica=3)  # type: ignore[call-arg]  # a part's own knob
    assert run.model == MODELS["mlp"](widths=(3, 4))  # type: ignore[call-arg]  # a part's own knob
    assert run.topology == Static(Topology("erdos_renyi", 16, knobs=(("p", 0.5),)))
    assert run.gradient == GRADIENTS["random_direction"](rho=1e-3)  # type: ignore[call-arg]  # a part's own knob


def test_a_name_replaces_a_part_with_all_its_knobs() -> None:
    config = {
        "task": "digits",
        "gradient": {"name": "random_direction", "rho": 0.1},
        "topology": {"graph": "grid", "n": 9},
    }
    changed, _ = with_overrides(config, ["gradient=plain", "topology=ring", "topology.n=5"])
    assert changed["gradient"] == "plain"
    assert parse(changed).topology == Static(Topology("ring", 5))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "'steps': not an override; write path.to.key=value"),
        ("=3", "'=3': not an override"),
        ("a..b=3", "'a..b=3': not an override"),
        ("steps.x=3", "steps.x: steps is not a mapping; give steps as a whole"),
        ("twins.x=3", "twins.x: twins is not a mapping"),
        ("model.widths=[1", "model.widths: not valid YAML"),
        ("learning_rate.lr=.nan", "learning_rate.lr: .nan given; numbers must be finite"),
        ("a." * 40 + "b=1", "'a.a"),
    ],
)
def test_an_override_that_cannot_be_applied_is_told(override: str, expected: str) -> None:
    _, found = with_overrides({"task": "digits", "steps": 3, "twins": []}, [override])
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_yaml_is_that_of_1_2() -> None:
    text = "a: 1e-3\nb: no\nc: on\nd: true\ne: ~\nf: 2001-01-01\ng: 1_000\nh: '1'\n<<: {x: 1}\ni: .5\nj: 0x10"
    found = read_text(text, "f.yaml")
    assert found == {
        "a": 1e-3,
        "b": "no",
        "c": "on",
        "d": True,
        "e": None,
        "f": "2001-01-01",
        "g": "1_000",
        "h": "1",
    } | {
        "<<": {"x": 1},
        "i": 0.5,
        "j": "0x10",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 012", "^a: 012 given; write the number without leading zeros, or quote it"),
        ("a: {b: [1, .inf]}", r"^a.b\[1\]: .inf given; numbers must be finite"),
        ("a: 1e999", "^a: 1e999 given; numbers must be finite"),
        ("a: " + "9" * 5000, "^a: 9{40} given; whole numbers have at most"),
        ("a: 1\na: 2", "^a: given twice; keep one"),
        ("b: {a: 1, a: 2}", "^b.a: given twice; keep one"),
        ("a: &x [1]\nb: [*x, *x]", "^f.yaml: anchors and aliases"),
        ("a: !!python/object/apply:os.system [ls]", "^f.yaml: tags"),
        ("? [a]\n: 1", "^f.yaml: a key is a list or a mapping"),
        ("a: 1\n---\nb: 2", "^f.yaml: more than one YAML document"),
        ("a: b: c", "^f.yaml: not valid YAML .line 1, column 5"),
        ("a: \x07", "^f.yaml: not valid YAML"),
        ("\ud800", "^f.yaml: not valid YAML"),
        ("[" * (MAX_DEPTH + 2), "nested more than 32 deep"),
        ("[" * 100_000, "nested more than 32 deep"),
        ("- " * 100_000, "nested more than 32 deep"),
        ("[" + "1," * 200_000 + "]", "^f.yaml: more than 50000 values"),
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_refused_in_a_sentence(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        read_text(text, "f.yaml")
    assert len(str(caught.value)) < 250


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=40)
@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert read_text(to_text(value), "x") == value


@pytest.mark.parametrize("text", ["1e3", "012", "no", "null", "~", ".nan", "1_0", "+1", "<<", "1:30", "0o7", "- x", ""])
def test_strings_that_look_like_something_else_stay_strings(text: str) -> None:
    assert read_text(to_text({"run": text}), "x") == {"run": text}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        value = read_text(text, "x")
        assert read_text(to_text(value), "x") == value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file; write a mapping"),
        (b"# nothing\n", "an empty file"),
        (b"- task\n", "a list at the top level"),
        (b"digits", "'digits' at the top level"),
        (b"\xff\xfe\x00", "not UTF-8 text .byte 0."),
        (b"#" * (MAX_BYTES + 1), "more than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"bad.yaml: {expected}"):
        load_config(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not a file"):
        load_config(tmp_path)


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


KEYS = (
    "name",
    "task",
    "model",
    "topology",
    "gradient",
    "twins",
    "metrics",
    "learning_rate",
    "optimizer",
    "backend",
    "steps",
)
KNOBS = (
    "name",
    "graph",
    "n",
    "schedule",
    "inner",
    "every",
    "source",
    "partition",
    "seed",
    "widths",
    "lr",
    "samples",
    "p",
)
NAMES = sorted({name for table in (*TABLES.values(), GRAPHS, SCHEDULES, TWINS, BACKENDS) for name in table})
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.floats()
    | st.sampled_from(NAMES)
    | st.sampled_from([10**30, -(10**400), "", "x.json", "\x00"])
)
PARTS = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOBS), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), PARTS, max_size=6))
def test_anything_is_a_run_or_a_list_of_problems(config: dict[str, Any]) -> None:
    found: Run | tuple[str, ...] = problems_or_run({"task": "digits", **config})
    if isinstance(found, Run):
        assert parse(found.describe()) == found
    else:
        assert found
        assert all(problem.isprintable() and ": " in problem for problem in found)
