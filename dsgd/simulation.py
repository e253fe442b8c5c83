"""A run made ready on a device: what its replicas are, and how one step takes them to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

import topologies
from dsgd.algorithms import ALGORITHMS, MIX_FIRST, Step, centralized
from dsgd.communicators import Communicator, Quarantine
from dsgd.data import DataSet, Sampler, sampler
from dsgd.divergence import not_finite
from dsgd.gathering import collected, counted, gathered, snapshot
from dsgd.gossip import Plan, gossiped
from dsgd.gradients import Estimate, Gradient
from dsgd.kernels.batch_norm import MOMENTUM, running
from dsgd.losses import check_loss
from dsgd.metrics import Snapshot, Split
from dsgd.objectives import Objective, Tilted
from dsgd.perturbations import Cloud, Noise, cloud
from dsgd.randomness import Row, normal_rows
from dsgd.run import FULL, PARTS, Run, twin_name
from dsgd.starts import start_network, start_row, starts
from dsgd.state import STATISTICS, Memory, State, When, mapped
from dsgd.tasks import Feed, outputs_of
from dsgd.trees import Params, Scaled
from topologies import KnobError
from topologies.arguments import about

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MOST_MATRICES = 1024  # kept of a schedule that cycles


@dataclass(frozen=True)
class World:
    """All that a run carries on after `step` steps: the ensemble, its twins (one row each), and the bytes sent so far.

    The ensemble's rows are those held here. With all of them (`Simulation.whole`) a run can be continued from it,
    wherever and in however many parts; `bytes_crossed` and `dropped` count what passed between those that held it.
    """

    step: int
    ensemble: State
    twins: Mapping[str, State] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_crossed: int = 0
    dropped: int = 0


def check(run: Run) -> tuple[DataSet, Sampler]:
    """The run's data and mini-batches; ValueError or FileNotFoundError for what only they or the graph can show."""
    mixing(run.topology)(0)
    data = run.task.data.load()
    if (getattr(run.model, "criterion", None) == "output") != (data.criterion == "output"):
        raise KnobError(
            "model",
            "task no_data has no examples; add model=quadratic, a loss without data, and batch_size=full"
            if data.criterion == "output"
            else f"model {_name(run.model)} is a loss without data; add task=no_data and batch_size=full, or take "
            "another model",
        )
    if data.tokens and not getattr(run.model, "reads_tokens", True):
        name = _name(run.model)
        raise KnobError("model", f"model {name} would take tokens for numbers; take neural_lm or transformer")
    if getattr(run.gradient, "classifies", False) and (data.criterion == "output" or data.outputs != data.classes):
        raise KnobError(
            "gradient",
            f"gradient {_name(run.gradient)} needs labels and an output for each class, which task "
            f"{_name(run.task.data)} lacks",
        )
    if fits := getattr(run.pretraining, "check", None):
        with about("pretraining"):
            fits(data)
    batch_size = None if run.batch_size == FULL else int(run.batch_size)
    found = sampler(run.task.partition, data.train.y, run.n, batch_size, run.seed)
    _check_batches(run, found)
    return data, found


def _check_batches(run: Run, batches: Sampler) -> None:
    """KnobError where mini-batches have fewer examples than the run asks for, or all together than a twin does."""
    shared = batches.shards is None and batches.batch_size == batches.examples  # one for all, not one each
    joint = batches.batch_size * (1 if shared else run.n)
    asked = [("the gradient method or the model", run.least_batch_size, batches.batch_size)]
    asked += [(f"the twin {twin_name(twin)}", getattr(twin, "least_batch_size", 1), joint) for twin in run.twins]
    for who, least, there in asked:
        if there < least:
            raise KnobError("batch_size", f"batch_size is {run.batch_size}, of {there} example; {who} needs {least}")


def check_fit(run: Run, data: DataSet, module: nn.Module) -> None:
    """ValueError for a model, a loss or a metric that does not fit the data, or a metric that does not the model."""
    check_loss(run.loss, data)
    if hasattr(module, "embedding_width") and not _are_tokens(data):
        raise KnobError(
            "model",
            f"model {_name(run.model)} reads tokens, whole numbers from 0 below {data.outputs}, and the inputs of task "
            f"{_name(run.task.data)} are others; use it with the task text",
        )
    _check_outputs(run, data, module)
    for k, metric in enumerate(run.metrics):
        if fits := getattr(metric, "check", None):
            with about(f"metrics[{k}]"):
                fits(data, module)


def _check_outputs(run: Run, data: DataSet, module: nn.Module) -> None:
    """ValueError where the module does not take the inputs, or gives other outputs than one for each class.

    Two examples go through it, of shapes alone where its parameters take no memory.
    """
    if data.criterion == "output" or not len(data.test):
        return
    x = data.test.x[:2]
    try:
        found = outputs_of(module, x)
    except Exception as error:
        sentence = (str(error) or type(error).__name__).splitlines()[0]
        if any(word in sentence.lower() for word in ("meta", "memory")):  # what the device cannot, not the model
            return
        shape = x.shape[1:]
        problem = f"model {_name(run.model)} cannot take the task's inputs of shape {shape}: {sentence}"
        raise KnobError("model", problem) from None
    if found != (wanted := (len(x), data.outputs)):
        raise KnobError(
            "model",
            f"model {_name(run.model)} gives outputs of shape {found} for {len(x)} examples, the task has "
            f"{data.classes} classes; give outputs of shape {wanted}",
        )


def _are_tokens(data: DataSet) -> bool:
    """Whether each input is a list of whole numbers, of which the model has an embedding."""
    inputs = (data.train.x, data.test.x)
    return all(((x >= 0) & (x < data.outputs) & (x == x.round())).all() for x in inputs)


def _name(part: object) -> str:
    return PARTS.get(type(part), type(part).__name__)


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
        quarantine = run.not_finite == "quarantine"
        self.run, self.communicator = run, Quarantine(communicator) if quarantine else communicator
        self.dtype = getattr(torch, run.dtype)
        self.network = start_network(run, data, self.dtype, device)
        check_fit(run, data, self.network.module)
        self.train, self.test = splits or (
            Split(torch.from_numpy(s.x).to(device, self.dtype), torch.from_numpy(s.y).to(device))
            for s in (data.train, data.test)
        )
        self.feed = Feed(self.network, self.train.x, self.train.y, mini_batches, communicator.rows)
        self.feed_of_all = self.feed if self.holds_all else self.feed.of(range(run.n))
        self.data_sha256 = data.sha256
        self.twin_methods = {twin_name(gradient): gradient for gradient in run.twins}
        self._matrices: dict[int, topologies.MixingMatrix] = {}

    @property
    def holds_all(self) -> bool:
        """Whether all n replicas are here."""
        return len(self.communicator.rows) == self.run.n

    @property
    def rows(self) -> tuple[Row, ...]:
        """Whose the ensemble's rows are."""
        return self._rows_of(self.feed)

    @property
    def multiplications(self) -> int:
        """About how many a step's gradients take: three a parameter and example."""
        return 3 * self.network.layout.d * self.feed.sampler.batch_size * len(self.communicator.rows)

    def start(self) -> World:
        """All replicas and twins at one start, or each replica at its own."""
        matrix = starts(self.run, self.network.module, self.communicator.rows)
        one = start_row(self.network.module)
        twins = {name: self._state(one.clone(), method) for name, method in self.twin_methods.items()}
        return World(0, self._state(matrix, self.run.gradient), twins)

    def _state(self, matrix: Tensor, gradient: Gradient) -> State:
        import torch

        p = Params(matrix, self.network.layout)
        memory = {"gradient": gradient.init(p), "optimizer": self.run.optimizer.init(p)}
        if not self.network.statistics_layout.d:
            return State(p, memory=memory)
        start = torch.cat([statistic.reshape(-1) for statistic in running(self.network.module).values()])
        return State(p, {STATISTICS: start.expand(p.rows, -1).clone()}, memory)

    def advance(self, world: World) -> World:
        """One step of the ensemble, and of each twin on the same batches and noise.

        A twin sees the covariance of the replicas where they took their gradients. `Diverged`, before anything is
        mixed, where a replica's loss is not finite and the run is to stop then.
        """
        step, run = world.step, self.run
        at = run.when(step)
        w = self.mixing_matrix(step)
        objective = self.objective(step)
        seen: list[Params] = []
        plan, rounds = run.gossip.plan(at), list[int]()
        if run.algorithm in MIX_FIRST:
            self.communicator.begin(world.ensemble.params, w)

        def estimate(state: State) -> tuple[State, Params]:
            seen.append(state.params)
            state, found = estimated(run.gradient, objective, self.noise(step, state.params), at, state)
            self._check(found.loss, step)
            return state, found.grads

        def mix(p: Params, plus: Scaled | None = None) -> Params:
            mixed, (made, *_) = gossiped(p, plan, partial(self._mixed, w), self._trace_xi, plus)
            rounds.append(made)
            return mixed

        ensemble = ALGORITHMS[run.algorithm](world.ensemble, Step(estimate, self.updating(at), mix, self._average))
        if ensemble.buffers and run.running_statistics == "mix":
            ensemble = replace(ensemble, buffers=self._mixed_statistics(ensemble.buffers, w, plan, sum(rounds)))
        twins = self._advance_twins(world.twins, objective, seen[0], at)
        sent = world.bytes_sent + self.bytes_of(w, sum(rounds))
        return replace(world, step=step + 1, ensemble=ensemble, twins=twins, bytes_sent=sent)

    def _mixed(self, w: topologies.MixingMatrix, p: Params, plus: Scaled | None = None) -> Params:
        return self.communicator.mix(p, w, plus)

    def _mixed_statistics(self, buffers: Memory, w: topologies.MixingMatrix, plan: Plan, rounds: int) -> Memory:
        """The running statistics, mixed as the parameters were: in as many rounds."""
        p = Params(buffers[STATISTICS], self.network.statistics_layout)
        if self.run.algorithm == "centralized":
            return {STATISTICS: self._average(p).matrix}
        made = replace(plan, rounds=rounds, trace_xi=None)
        return {STATISTICS: gossiped(p, made, partial(self._mixed, w), self._trace_xi)[0].matrix}

    def _trace_xi(self, p: Params) -> Tensor:
        """Tr Xi for each row here: of all n replicas, or of those not in quarantine; everywhere the same number."""
        away = self._average(p).matrix.sub_(p.matrix)
        squares = gathered(self.communicator, away.square_().sum(dim=1))
        return squares[squares.isfinite()].mean().expand(p.rows)

    def mixing_matrix(self, step: int) -> topologies.MixingMatrix:
        """W_t; those through which a schedule cycles are made once, and stay though their files change."""
        period = self.run.schedule.period
        if period is None or period > MOST_MATRICES:
            return self.run.schedule(step)
        if step % period not in self._matrices:
            self._matrices[step % period] = self.run.schedule(step)
        return self._matrices[step % period]

    def _check(self, loss: Tensor, step: int) -> None:
        """Looks at the losses, which cost nothing to look at but on a GPU; what they hide is seen when measured."""
        if self.run.not_finite == "stop" and not loss.is_cuda and not (finite := loss.isfinite()).all():
            raise not_finite(self.communicator.rows, finite.tolist(), step, self.run.n)

    def _advance_twins(
        self, twins: Mapping[str, State], objective: Objective, replicas: Params, at: When
    ) -> dict[str, State]:
        """Each place moves the twins on all replicas' examples: dear, but the same numbers and nothing to send."""
        if not twins:
            return {}
        joint = (objective if self.holds_all else self._objective(self.feed_of_all, at.step)).joint()
        noise = self.noise(at.step, replicas)

        def moved(name: str, state: State) -> State:
            own = replace(noise, rows=((self.run.seed, 0),), path=(name,))

            def estimate(state: State) -> tuple[State, Params]:
                state, found = estimated(self.twin_methods[name], joint, own, at, state)
                return state, found.grads

            return centralized(state, Step(estimate, self.updating(at), _unmixed, _itself))

        return {name: moved(name, state) for name, state in twins.items()}

    def objective(self, step: int) -> Objective:
        """The replicas' losses on this step's mini-batches, with this step's additive noise if the run asks for it."""
        return self._objective(self.feed, step)

    def _objective(self, feed: Feed, step: int) -> Objective:
        batch = feed.batch(step)
        if not self.run.gradient_noise:
            return batch
        d, rows = self.network.layout.d, self._rows_of(feed)
        noise = normal_rows(self.train.x.new_empty(len(rows), d), rows, "gradient_noise", step)
        return Tilted(batch, noise * (self.run.gradient_noise / d**0.5))

    def _rows_of(self, feed: Feed) -> tuple[Row, ...]:
        return tuple((self.run.seed, replica) for replica in feed.rows)

    def whole(self, world: World) -> World | None:
        """The world with all n replicas' rows, in their order; None but in the place that leads."""
        import torch

        def every(tensor: Tensor) -> Tensor:
            found = collected(self.communicator, tensor)
            return tensor if found is None else found

        ensemble = mapped(world.ensemble, every)
        counts = torch.zeros(len(self.communicator.rows), 2, dtype=torch.int64, device=self.train.x.device)
        counts[0, 0], counts[0, 1] = self.communicator.bytes_crossed, self.communicator.dropped
        crossed, dropped = every(counts).sum(dim=0).tolist()
        if not self.communicator.leads:
            return None
        crossed, dropped = world.bytes_crossed + crossed, world.dropped + dropped
        return replace(world, ensemble=ensemble, bytes_crossed=crossed, dropped=dropped)

    def part(self, world: World) -> World:
        """The world of all n replicas with the rows held here alone, on this device."""
        import torch

        rows = torch.tensor(self.communicator.rows)

        def moved(state: State, rows: Tensor | None = None) -> State:
            return mapped(state, lambda t: (t if rows is None else t[rows]).to(self.train.x.device))

        twins = {name: moved(twin) for name, twin in world.twins.items()}
        return replace(world, ensemble=moved(world.ensemble, rows), twins=twins)

    def anywhere(self, flag: bool) -> bool:
        """Whether the flag is raised in any of the places that hold replicas."""
        if self.holds_all:
            return flag
        return bool(gathered(self.communicator, self.train.y.new_full((len(self.rows),), flag)).any())

    def finite(self, world: World) -> list[bool]:
        """Of each of the n replicas, whether all its parameters are finite numbers."""
        finite: list[bool] = gathered(self.communicator, world.ensemble.params.matrix.isfinite().all(dim=1)).tolist()
        return finite

    def snapshot(self, world: World) -> Snapshot | None:
        """All n replicas and the twins, with what metrics need to judge them; None but in the place that leads."""
        return snapshot(self, world)

    def updating(self, at: When) -> Callable[[State, Params], tuple[State, Scaled]]:
        """The optimizer's move at this time."""

        def update(state: State, grads: Params) -> tuple[State, Scaled]:
            change, memory = self.run.optimizer.update(grads, state.memory["optimizer"], state.params, at.lr)
            return state.remember("optimizer", memory), change

        return update

    def _average(self, p: Params) -> Params:
        return self.communicator.mix(p, topologies.Mean(self.run.n))

    def noise(self, step: int, replicas: Params) -> Noise:
        """What the gradients may draw at this step, with the covariance of `replicas`."""

        @cache
        def of_replicas() -> Cloud:
            return cloud(counted(self.run, self.communicator.gather(replicas)).matrix)

        return Noise(step, self.rows, of_replicas)

    def bytes_of(self, w: topologies.MixingMatrix, rounds: int = 1) -> int:
        """Bytes sent over a real network in a step with so many rounds of mixing by W.

        A centralized step's mean over all is a ring all-reduce, 2 (n - 1) models.
        """
        models = 2 * (self.run.n - 1) if self.run.algorithm == "centralized" else rounds * w.messages
        mixed = self.network.statistics_layout.d if self.run.running_statistics == "mix" else 0
        return models * (self.network.layout.d + mixed) * self.dtype.itemsize


def estimated(method: Gradient, objective: Objective, noise: Noise, at: When, state: State) -> tuple[State, Estimate]:
    """What the method finds, and the state with its memories moved on.

    Running statistics move once a step, by those of the mini-batch at the parameters, wherever the method looks.
    """
    buffers = {name: old.lerp(objective.statistics(state.params), MOMENTUM) for name, old in state.buffers.items()}
    found = method.estimate(objective, state.params, noise, state.memory["gradient"], at)
    state = replace(state, buffers=buffers).remember("gradient", found.memory)
    return (state.remember("gauges", found.gauges) if found.gauges else state), found


def _unmixed(p: Params, plus: Scaled | None = None) -> Params:
    return p if plus is None else p + plus


def _itself(p: Params) -> Params:
    return p
