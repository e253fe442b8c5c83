"""The value that says all that decides a result, and nothing of where it is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dsgd.algorithms import ALGORITHMS
from dsgd.data import PARTITIONS
from dsgd.gossip import GOSSIPS, Gossip, Once
from dsgd.gradients import GRADIENTS, SOURCES, Gradient
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.knobs import check_least
from dsgd.learning_rates import LEARNING_RATES, Constant, LearningRate
from dsgd.losses import LOSSES, Loss, OfTask
from dsgd.metrics import METRICS, Accuracy, Consensus, Metric
from dsgd.models import MODELS, Mlp, Model
from dsgd.optimizers import OPTIMIZERS, Optimizer, Sgd
from dsgd.pretraining import PRETRAININGS, Pretraining, Scratch
from dsgd.state import When
from dsgd.tasks import TASKS, Task
from topologies import SCHEDULES, Periodic, Schedule, Static, Topology
from topologies.arguments import about

TWINS: dict[str, type[Gradient]] = {"average_direction_sam": WeightDiversity, "centralized": Plain}
DTYPES = ("float32", "float64")
NOT_FINITE = ("stop", "quarantine")
RUNNING_STATISTICS = ("mix", "local", "recalibrate")
STARTS = ("same", "own")
FULL = "full"

LISTS = {"metrics": "Accuracy()", "twins": "Plain()"}  # the fields that are tuples of parts, with one of them
HAS: dict[str, tuple[str, ...]] = {  # what a run asks of its parts
    "task": ("data", "partition"),
    "model": ("build", "smooth"),
    "topology": ("__call__", "n"),
    "gossip": ("plan",),
    "gradient": ("init", "estimate"),
    "optimizer": ("init", "update"),
    "learning_rate": ("at",),
    "pretraining": ("start",),
    "loss": ("__call__",),
    "metrics": ("__call__", "every"),
    "twins": ("init", "estimate"),
}

PARTS: dict[type, str] = {
    kind: name
    for table in (
        TASKS,
        PARTITIONS,
        MODELS,
        GRADIENTS,
        SOURCES,
        OPTIMIZERS,
        LEARNING_RATES,
        METRICS,
        SCHEDULES,
        GOSSIPS,
        LOSSES,
        PRETRAININGS,
    )
    for name, kind in table.items()
}


@dataclass(frozen=True)
class Run:
    """A decentralized training run.

    `topology` is the schedule of mixing matrices and fixes n; `local_steps` SGD steps are taken between two gossips,
    and `gossip` says how far each goes; `batch_size` is a replica's, "full" all that it has; `gradient_noise` is the
    root mean square length of Gaussian noise added to every replica's gradient; `twins` are single models that advance
    beside the ensemble on the same batches and noise, each with its own gradient method; `not_finite` says what becomes
    of a run with a replica that is no longer finite: it stops, or goes on with that replica in quarantine;
    `snapshot_every` 0 records no ensembles on the way. `running_statistics` are batch normalisation's: mixed like the
    parameters, or local; the mean model is judged by their mean over replicas, or with recalibrate, where they stay
    local, by those of training examples.
    `starts` says whether all replicas begin at the same start, or replica j at its own, of the key (seed, "start", j);
    twins begin at the same one either way. `same` is the default, because replicas with starts of their own are no
    small perturbation of their mean, as theory needs them, until gossip has drawn them together: about 1 / spectral gap
    steps. Without gossip (`local_steps` above `steps`) those with their own are a deep ensemble. `pretraining` is what
    such a start went through before. `loss` is what is minimised, where that is not what the task's data ask for.
    """

    task: Task = field(default_factory=Task)
    model: Model = field(default_factory=Mlp)
    topology: Schedule = field(default_factory=lambda: Static(Topology("ring", 16)))
    algorithm: str = "consensus"
    local_steps: int = 1
    gossip: Gossip = field(default_factory=Once)
    gradient: Gradient = field(default_factory=Plain)
    optimizer: Optimizer = field(default_factory=Sgd)
    learning_rate: LearningRate = field(default_factory=Constant)
    twins: tuple[Gradient, ...] = ()
    batch_size: int | str = 32
    gradient_noise: float = 0.0
    steps: int = 1000
    seed: int = 0
    dtype: str = "float32"
    not_finite: str = "stop"
    measure_every: int = 50
    snapshot_every: int = 0
    metrics: tuple[Metric, ...] = (Consensus(), Accuracy())
    running_statistics: str = "mix"
    starts: str = "same"
    pretraining: Pretraining = field(default_factory=Scratch)
    loss: Loss = field(default_factory=OfTask)

    def __post_init__(self) -> None:
        _check_parts(self)
        _one_of("algorithm", self.algorithm, ALGORITHMS)
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("not_finite", self.not_finite, NOT_FINITE)
        _one_of("running_statistics", self.running_statistics, RUNNING_STATISTICS)
        _one_of("starts", self.starts, STARTS)
        check_least(self, local_steps=1, steps=1, seed=0, measure_every=1, snapshot_every=0)
        _check_normalisation(self)
        _check_starts(self)
        _check_metrics(self)
        least = self.least_batch_size
        if self.batch_size != FULL and (isinstance(self.batch_size, str) or self.batch_size < least):
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least {least}, or {FULL}")
        check_least(self, gradient_noise=0)
        if self.algorithm == "centralized" and self.local_steps > 1:
            raise ValueError(
                "local_steps is above 1 and algorithm centralized, which averages every step; "
                "take adapt_then_combine on the complete graph"
            )
        if self.algorithm == "centralized" and type(self.gossip) is not Once:
            raise ValueError(
                f"gossip is {_name_of(self.gossip)} and algorithm centralized, which uses no graph; leave gossip out, "
                "or take adapt_then_combine on the complete graph"
            )
        if len(set(map(twin_name, self.twins))) < len(self.twins):
            raise ValueError("twins names one twin twice; name each once")
        if check := getattr(self.learning_rate, "check", None):
            with about("learning_rate"):
                check(self.steps)

    @property
    def n(self) -> int:
        """Number of replicas."""
        return self.topology.n

    @property
    def least_batch_size(self) -> int:
        """The examples that a mini-batch must have."""
        return max(getattr(part, "least_batch_size", 1) for part in (self.gradient, self.model))

    @property
    def smooth(self) -> bool:
        """Whether what is minimised is C^4 in the parameters."""
        return self.model.smooth and getattr(self.loss, "smooth", True)

    @property
    def schedule(self) -> Schedule:
        """The schedule with `local_steps` taken into account."""
        return self.topology if self.local_steps == 1 else Periodic(self.topology, self.local_steps)

    def when(self, step: int) -> When:
        """The time of a step."""
        return When(step, self.learning_rate.at(step, self.steps), *self._lr_span)

    @cached_property
    def _lr_span(self) -> tuple[float, float]:
        """The greatest learning rate of the run, and its last."""
        last = self.learning_rate.at(self.steps - 1, self.steps)
        if peak := getattr(self.learning_rate, "peak", None):
            return self.learning_rate.at(peak(self.steps), self.steps), last
        return max(self.learning_rate.at(step, self.steps) for step in range(self.steps)), last

    def files(self) -> tuple[Path, ...]:
        """The user's files that decide the result beside this value: graphs, mixing matrices, weights, snapshots."""
        return tuple(_files(self))

    def describe(self) -> dict[str, Any]:
        """The resolved configuration as plain dicts, lists, strings and numbers: what `dsgd run` reads."""
        config: dict[str, Any] = {
            "task": _describe(self.task.data) | {"partition": _describe(self.task.partition)},
            "model": _describe(self.model),
            "topology": _describe_topology(self.topology),
        }
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in config}
        config |= {name: _describe(value) for name, value in rest.items()}
        config["twins"] = [_describe(twin) | {"name": twin_name(twin)} for twin in self.twins]
        return config


def twin_name(gradient: Gradient) -> str:
    """The name under which a twin with this gradient method appears in the metrics."""
    for name, kind in TWINS.items():
        if type(gradient) is kind:
            return name
    raise ValueError(f"{type(gradient).__name__} is not a twin's method; allowed are {', '.join(TWINS)}")


def _check_parts(run: Run) -> None:
    """ValueError for what is no part where one must be: a graph without a schedule, a name, a number, a class."""
    if isinstance(run.topology, Topology | str):
        given = repr(run.topology) if isinstance(run.topology, str) else "a Topology"
        raise ValueError(f"topology is {given}; it must be a schedule, so wrap a graph: Static(Topology(...))")
    for f in fields(run):
        value = getattr(run, f.name)
        if f.name in LISTS:
            _check_list(f.name, value)
        elif f.name in HAS and not _is_part(f.name, value):
            example = f"{type(f.default_factory()).__name__}()" if f.default_factory is not MISSING else ""
            raise ValueError(f"{f.name} is {_given(value)}; pass an object such as {example}{_lacking(f.name, value)}")


def _check_list(name: str, given: Any) -> None:
    """ValueError where the metrics or twins are no tuple, or one of them is no such part."""
    example = LISTS[name]
    if not isinstance(given, tuple):
        raise ValueError(f"{name} is {_given(given)}; it must be a tuple of objects, such as ({example},)")
    for one in given:
        if not _is_part(name, one):
            raise ValueError(f"{name} has {_given(one)}; pass objects such as {example}{_lacking(name, one)}")


def _is_part(name: str, value: Any) -> bool:
    """Whether it is an object that can stand there; the loss of a task, which is none, is known by its type."""
    of_task = name == "loss" and isinstance(value, OfTask)
    return of_task or not (isinstance(value, type) or _lacking(name, value))


def _lacking(name: str, value: Any) -> str:
    """What of the part the value lacks, said, and where names go; empty where it lacks nothing, or is a class."""
    if isinstance(value, str):
        return "; names go to dsgd.load_config"
    lacking = [] if isinstance(value, type) else [one for one in HAS[name] if not hasattr(value, one)]
    return f", which has {' and '.join(lacking)}" if lacking else ""


def _given(value: Any) -> str:
    """A value that is no part, in few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"


def _name_of(part: Any) -> str:
    """The name of a part in its table, or of its class where a user brought it."""
    return PARTS.get(type(part), type(part).__qualname__)


def _one_of(name: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value}; allowed are {', '.join(allowed)}")


def _files(value: Any) -> Iterator[Path]:
    if hasattr(value, "files") and not isinstance(value, Run):
        yield from value.files()
    if isinstance(value, tuple):
        for item in value:
            yield from _files(item)
    elif is_dataclass(value):
        for f in fields(value):
            yield from _files(getattr(value, f.name))


def _check_normalisation(run: Run) -> None:
    """ValueError for what batch normalisation cannot be trained with."""
    if getattr(run.model, "least_batch_size", 1) > 1 and not isinstance(run.pretraining, Scratch):
        raise ValueError(
            "pretraining knows no batch normalisation, which the model has; take another norm, or leave it out"
        )
    if getattr(run.model, "least_batch_size", 1) < 2:
        if run.running_statistics != "mix":
            raise ValueError(
                f"running_statistics is {run.running_statistics}, but the model has no batch normalisation; take one "
                "with norm batch, or leave it out"
            )
        return
    if run.running_statistics == "mix" and run.not_finite == "quarantine":
        raise ValueError(
            "not_finite is quarantine, which does not know of mixed running statistics; take running_statistics local "
            "or recalibrate"
        )
    smallest = getattr(run.gradient, "smallest_part", None)
    if smallest and run.batch_size != FULL and smallest(run.batch_size) < 2:
        raise ValueError(
            f"batch_size is {run.batch_size}, of which the gradient method makes a part of one example; batch "
            "normalisation needs at least two in each"
        )


def _check_starts(run: Run) -> None:
    """ValueError where replicas cannot have starts of their own, or would never come together."""
    if run.starts == "own" and run.algorithm == "centralized":
        raise ValueError(
            "starts is own and algorithm centralized, which takes one step everywhere and leaves the replicas as far "
            "apart as they began; take adapt_then_combine on the complete graph, or starts same"
        )
    if run.starts == "own" and (weights := getattr(run.model, "weights", None)):
        raise ValueError(
            f"starts is own, but the model starts from the file {weights}; leave out weights, or take starts same"
        )


def _check_metrics(run: Run) -> None:
    """ValueError for two metrics that would write the same columns."""
    seen = set()
    for metric in run.metrics:
        apart = getattr(metric, "apart", ())
        columns = type(metric), *(getattr(metric, knob) for knob in apart)
        if columns in seen:
            mend = f"give them another {' or '.join(apart)} each, or leave one out" if apart else "leave one out"
            raise ValueError(f"metrics has {_name_of(metric)} twice, whose columns would have the same names; {mend}")
        seen.add(columns)


def _describe(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_describe(item) for item in value]
    if not is_dataclass(value):
        return value
    shown = (f.name for f in fields(value) if f.repr)  # a user's arrays are known by their hash
    return {"name": _name_of(value)} | {name: _describe(getattr(value, name)) for name in shown}


def _describe_topology(schedule: Any) -> dict[str, Any]:
    """Graph and weights beside the schedule's own knobs, as the config spells them."""
    if isinstance(schedule, Periodic):
        inner = _describe_topology(schedule.inner)
        return inner | {"schedule": {"name": "periodic", "every": schedule.every, "inner": inner["schedule"]}}
    n = schedule.n
    if not is_dataclass(schedule):
        return {"n": n, "schedule": repr(schedule)}
    topology = getattr(schedule, "topology", None)
    own = {f.name: getattr(schedule, f.name) for f in fields(schedule) if f.name not in ("topology", "n")}
    described = {"name": _name_of(schedule)} | own
    return _describe_graph(topology) | {"n": n, "schedule": described}


def _describe_graph(topology: Topology | None) -> dict[str, Any]:
    if topology is None:
        return {}
    graph = {"name": topology.graph, **dict(topology.knobs), "seed": topology.seed}
    return {"graph": graph, "weights": topology.weights, "allow_disconnected": topology.allow_disconnected}
