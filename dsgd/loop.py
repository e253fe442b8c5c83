"""The loop: each replica estimates a gradient, an optimizer turns it into an update, the replicas mix by W_t."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Protocol

import topologies
from dsgd.algorithms import ALGORITHMS, Step, centralized
from dsgd.communicators import Communicator
from dsgd.data import DataSet, Sampler, sampler
from dsgd.gradients import Gradient
from dsgd.matrices import new_matrix
from dsgd.metrics import Metric, Snapshot, Split, Values
from dsgd.objectives import Network, Objective, Tilted, network
from dsgd.perturbations import Cloud, Noise, cloud
from dsgd.randomness import Row, normal_rows, stream_key
from dsgd.run import FULL, Run, twin_name
from dsgd.state import State, When
from dsgd.tasks import Feed
from dsgd.trees import Params, Scaled
from topologies import KnobError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


MOST_MATRICES = 1024  # kept of a schedule that cycles


@dataclass(frozen=True)
class Result:
    """What a run leaves: stacked parameters, leaves (n, ...), one row a measurement, and the seconds it took.

    `data_sha256` is the hash of the data set's own bytes.
    """

    params: dict[str, Tensor]
    history: list[Values]
    seconds: float
    data_sha256: str


class Observer(Protocol):
    """Told of the progress of a run; `step` counts the steps done."""

    def stepped(self, step: int) -> None: ...
    def measured(self, row: Values) -> None: ...
    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class World:
    """All that a run carries on after `step` steps: the ensemble, its twins (one row each), and the bytes sent so far.

    The rows are those held here; with the others' rows it is what a run can be continued from.
    """

    step: int
    ensemble: State
    twins: Mapping[str, State] = field(default_factory=dict)
    bytes_sent: int = 0


def check(run: Run) -> tuple[DataSet, Sampler]:
    """The run's data and mini-batches; ValueError or FileNotFoundError for what only they or the graph can show."""
    mixing(run.topology)(0)
    data = run.task.data.load()
    if getattr(run.model, "criterion", "cross_entropy") != data.criterion:
        raise KnobError(
            "model",
            "task no_data has no examples; add model=quadratic, a loss without data, and batch_size=full"
            if data.criterion == "output"
            else "model quadratic is a loss without data; add task=no_data and batch_size=full, or take another model",
        )
    batch_size = None if run.batch_size == FULL else int(run.batch_size)
    return data, sampler(run.task.partition, data.train.y, run.n, batch_size, run.seed)


def mixing(schedule: topologies.Schedule) -> topologies.Schedule:
    """The schedule that mixes at its first step: what a periodic one holds inside."""
    while isinstance(schedule, topologies.Periodic):
        schedule = schedule.inner
    return schedule


class Simulation:
    """A run made ready on a device, for the replicas that `communicator` holds.

    `splits` are the run's train and test examples where these lie on the device already.
    """

    def __init__(
        self, run: Run, communicator: Communicator, device: torch.device, splits: tuple[Split, Split] | None = None
    ) -> None:
        import torch

        data, mini_batches = check(run)
        self.run, self.communicator = run, communicator
        self.dtype = getattr(torch, run.dtype)
        self.network = start_network(run, data, self.dtype, device)
        self.train, self.test = splits or (
            Split(torch.from_numpy(s.x).to(device, self.dtype), torch.from_numpy(s.y).to(device))
            for s in (data.train, data.test)
        )
        self.feed = Feed(self.network, self.train.x, self.train.y, mini_batches, communicator.rows)
        self.data_sha256 = data.sha256
        self.twin_methods = {twin_name(gradient): gradient for gradient in run.twins}
        self._matrices: dict[int, topologies.MixingMatrix] = {}

    @property
    def rows(self) -> tuple[Row, ...]:
        """Whose the ensemble's rows are."""
        return tuple((self.run.seed, replica) for replica in self.communicator.rows)

    @property
    def multiplications(self) -> int:
        """About how many a step's gradients take: three a parameter and example."""
        return 3 * self.network.layout.d * self.feed.sampler.batch_size * len(self.communicator.rows)

    def start(self) -> World:
        """All replicas and twins at one start."""
        import torch

        leaves = [leaf.detach().reshape(-1) for leaf in self.network.module.parameters()]
        row = torch.cat(leaves)[None]
        ensemble = self._state(new_matrix(len(self.communicator.rows), row).copy_(row), self.run.gradient)
        twins = {name: self._state(row.clone(), method) for name, method in self.twin_methods.items()}
        return World(0, ensemble, twins)

    def _state(self, matrix: Tensor, gradient: Gradient) -> State:
        p = Params(matrix, self.network.layout)
        return State(p, memory={"gradient": gradient.init(p), "optimizer": self.run.optimizer.init(p)})

    def advance(self, world: World) -> World:
        """One step of the ensemble, and of each twin on the same batches and noise.

        A twin sees the covariance of the replicas where they took their gradients.
        """
        step, run = world.step, self.run
        at = When(step, run.learning_rate.at(step, run.steps))
        w = self.mixing_matrix(step)
        objective = self.objective(step)
        seen: list[Params] = []

        def estimate(state: State) -> tuple[State, Params]:
            seen.append(state.params)
            return estimated(run.gradient, objective, self.noise(step, state.params), at, state)

        def mix(p: Params, plus: Scaled | None = None) -> Params:
            return self.communicator.mix(p, w, plus)

        ensemble = ALGORITHMS[run.algorithm](world.ensemble, Step(estimate, self.updating(at), mix, self._average))
        twins = self._advance_twins(world.twins, objective, seen[0], at)
        return World(step + 1, ensemble, twins, world.bytes_sent + self.bytes_of(w))

    def mixing_matrix(self, step: int) -> topologies.MixingMatrix:
        """W_t; those through which a schedule cycles are made once, and stay though their files change."""
        period = self.run.schedule.period
        if period is None or period > MOST_MATRICES:
            return self.run.schedule(step)
        if step % period not in self._matrices:
            self._matrices[step % period] = self.run.schedule(step)
        return self._matrices[step % period]

    def _advance_twins(
        self, twins: Mapping[str, State], objective: Objective, replicas: Params, at: When
    ) -> dict[str, State]:
        if not twins:
            return {}
        joint, noise = objective.joint(), self.noise(at.step, replicas)

        def moved(name: str, state: State) -> State:
            own = replace(noise, rows=((self.run.seed, 0),), path=(name,))

            def estimate(state: State) -> tuple[State, Params]:
                return estimated(self.twin_methods[name], joint, own, at, state)

            return centralized(state, Step(estimate, self.updating(at), _unmixed, self._average_of_one))

        return {name: moved(name, state) for name, state in twins.items()}

    def objective(self, step: int) -> Objective:
        """The replicas' losses on this step's mini-batches, with this step's additive noise if the run asks for it."""
        batch = self.feed.batch(step)
        if not self.run.gradient_noise:
            return batch
        d = self.network.layout.d
        like = self.train.x.new_empty(len(self.rows), d)
        noise = normal_rows(like, self.rows, "gradient_noise", step)
        return Tilted(batch, noise * (self.run.gradient_noise / d**0.5))

    def snapshot(self, world: World) -> Snapshot:
        """All n replicas and the twins, with what metrics need to judge them."""
        import torch

        shards = self.feed.sampler.shards
        return Snapshot(
            world.step,
            self.communicator.gather(world.ensemble.params),
            self.network,
            self.train,
            self.test,
            self.run.model.smooth,
            self.run.seed,
            {name: state.params for name, state in world.twins.items()},
            None if shards is None else tuple(torch.from_numpy(s).to(self.train.x.device) for s in shards),
        )

    def updating(self, at: When) -> Callable[[State, Params], tuple[State, Scaled]]:
        """The optimizer's move at this time."""

        def update(state: State, grads: Params) -> tuple[State, Scaled]:
            change, memory = self.run.optimizer.update(grads, state.memory["optimizer"], state.params, at.lr)
            return state.remember("optimizer", memory), change

        return update

    def _average(self, p: Params) -> Params:
        return self.communicator.mix(p, topologies.Mean(self.run.n))

    def _average_of_one(self, p: Params) -> Params:
        """The mean over all replicas of a single row that stands for those held here."""
        held = len(self.communicator.rows)
        return p if held == self.run.n else self._average(p.like(p.matrix.expand(held, -1))).row(0)

    def noise(self, step: int, replicas: Params) -> Noise:
        """What the gradients may draw at this step, with the covariance of `replicas`."""

        @cache
        def of_replicas() -> Cloud:
            return cloud(self.communicator.gather(replicas).matrix)

        return Noise(step, self.rows, of_replicas)

    def bytes_of(self, w: topologies.MixingMatrix) -> int:
        """Bytes sent over a real network in a step with W; a mean over all is a ring all-reduce, 2 (n - 1) models."""
        models = 2 * (self.run.n - 1) if self.run.algorithm == "centralized" else w.messages
        return models * self.network.layout.d * self.dtype.itemsize


def start_network(run: Run, data: DataSet, dtype: torch.dtype, device: torch.device) -> Network:
    """The model with the start that `run.seed` fixes, drawn on the CPU so that it is the same on every device."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(run.seed, "start"))
        module = run.model.build(data.train.shape, data.classes)
    return network(module.to(device, dtype), data.criterion)


def simulate(simulation: Simulation, observers: Iterable[Observer] = (), world: World | None = None) -> Result:
    """Takes all steps, from the start or from `world`, and measures on the way.

    FloatingPointError once a replica is not finite. What was due at the step of a `world` given is not due again.
    """
    observers, began = tuple(observers), time.perf_counter()
    history: list[Values] = []
    if world is None:
        world = simulation.start()
        look(simulation, world, observers, history)
    while world.step < simulation.run.steps:
        world = simulation.advance(world)
        for observer in observers:
            observer.stepped(world.step)
        look(simulation, world, observers, history)
    params = dict(simulation.communicator.gather(world.ensemble.params))
    return Result(params, history, time.perf_counter() - began, simulation.data_sha256)


def look(simulation: Simulation, world: World, observers: Sequence[Observer], history: list[Values]) -> None:
    """Measures and records what is due after the world's steps; FloatingPointError if that is not finite."""
    row = measured(simulation, world)
    if row is not None:
        history.append(row)
        for observer in observers:
            observer.measured(row)
    every = simulation.run.snapshot_every
    if every and world.step % every == 0:
        ensemble = simulation.communicator.gather(world.ensemble.params)
        for observer in observers:
            observer.snapshotted(world.step, ensemble)


def measured(simulation: Simulation, world: World) -> Values | None:
    """The row of metrics due after the world's steps, or None."""
    run, step = simulation.run, world.step
    due = [metric for metric in run.metrics if _due(metric, step, run)]
    if due or step == run.steps:
        _check_finite(world, simulation.communicator.rows)
    if not due:
        return None
    snapshot = simulation.snapshot(world)
    row: Values = {"step": step, "lr": run.learning_rate.at(min(step, run.steps - 1), run.steps)}
    for metric in due:
        row |= metric(snapshot)
    return row | {"bytes_sent": world.bytes_sent}


def _due(metric: Metric, step: int, run: Run) -> bool:
    every = run.measure_every if metric.every is None else metric.every
    return step == run.steps or (every > 0 and step % every == 0)


def _check_finite(world: World, rows: tuple[int, ...]) -> None:
    for name, twin in world.twins.items():
        if not twin.params.matrix.isfinite().all():
            raise FloatingPointError(f"the twin {name} is not finite after {world.step} steps; lower learning_rate.lr")
    finite = world.ensemble.params.matrix.isfinite().all(dim=1)
    if not finite.all():
        replicas = [j for j, ok in zip(rows, finite.tolist(), strict=True) if not ok]
        raise FloatingPointError(
            f"{len(replicas)} of {len(rows)} replicas are not finite after {world.step} steps, "
            f"the first is replica {replicas[0]}; lower learning_rate.lr"
        )


def estimated(method: Gradient, objective: Objective, noise: Noise, at: When, state: State) -> tuple[State, Params]:
    found = method.estimate(objective, state.params, state.buffers, noise, state.memory["gradient"], at)
    return replace(state, buffers=found.buffers).remember("gradient", found.memory), found.grads


def _unmixed(p: Params, plus: Scaled | None = None) -> Params:
    return p if plus is None else p + plus
