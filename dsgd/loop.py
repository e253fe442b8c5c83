"""The loop: step after step, and on the way what is due: measurements, snapshots, a world to keep, a wish to stop."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dsgd.divergence import Diverged, not_finite
from dsgd.metrics import Metric, Values
from dsgd.run import PARTS, Run
from dsgd.simulation import Simulation, World

if TYPE_CHECKING:
    from torch import Tensor

STEPS_BETWEEN_ASKING = 8  # whether to stop, where several places must agree
VALUES = "a number, a list of numbers, a string or None"


@dataclass(frozen=True)
class Result:
    """What a run leaves: stacked parameters, leaves (n, ...), one row a measurement, and the seconds it took.

    `data_sha256` is the hash of the data set's own bytes; `bytes_crossed` went between the places that held replicas,
    and `dropped` messages came too late to be mixed; there were so many `places`, in the end.
    """

    params: dict[str, Tensor]
    history: list[Values]
    seconds: float
    data_sha256: str
    bytes_crossed: int = 0
    dropped: int = 0
    places: int = 1


class Observer(Protocol):
    """Told of the progress of a run; `step` counts the steps done. An `event` is anything else worth a line."""

    def stepped(self, step: int) -> None: ...
    def measured(self, row: Values) -> None: ...
    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None: ...
    def event(self, event: str, **details: object) -> None: ...


class Keeper(Protocol):
    """Keeps whole worlds from which a run can be continued, and may wish that it stops.

    `keep` is called after each `every` steps but the last (0: only before a stop) in the place that leads, `stopping`
    in each.
    """

    @property
    def every(self) -> int: ...
    def keep(self, world: World) -> None: ...
    def stopping(self) -> bool: ...


class Stopped(Exception):
    """A run ended by its keeper's wish after `step` steps, its world kept."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after {step} steps")
        self.step = step


def simulate(
    simulation: Simulation,
    observers: Iterable[Observer] = (),
    world: World | None = None,
    keeper: Keeper | None = None,
) -> Result:
    """Takes all steps, from the start or from a whole `world`, and measures on the way.

    `Diverged` once a replica is not finite; `Stopped` where the keeper wishes. What was due at the step of a
    `world` given is not due again. The result is whole in the place that leads; elsewhere it has no parameters.
    """
    observers, began = tuple(observers), time.perf_counter()
    history: list[Values] = []
    if world is None:
        world = simulation.start()
        look(simulation, world, observers, history)
    else:
        world = simulation.part(world)
    while world.step < simulation.run.steps:
        world = simulation.advance(world)
        for observer in observers:
            observer.stepped(world.step)
        look(simulation, world, observers, history)
        if keeper:
            keep(simulation, world, keeper)
    params = dict(simulation.communicator.collect(world.ensemble.params) or {})
    before = (world.bytes_crossed, world.dropped) if simulation.communicator.leads else (0, 0)
    crossed, dropped = before[0] + simulation.communicator.bytes_crossed, before[1] + simulation.communicator.dropped
    return Result(params, history, time.perf_counter() - began, simulation.data_sha256, crossed, dropped)


def keep(simulation: Simulation, world: World, keeper: Keeper) -> None:
    """Hands the keeper the whole world if that is due or it wishes to stop; then `Stopped`."""
    asked = simulation.holds_all or world.step % STEPS_BETWEEN_ASKING == 0
    stopping = asked and world.step < simulation.run.steps and simulation.anywhere(keeper.stopping())
    due = keeper.every > 0 and world.step % keeper.every == 0 and world.step < simulation.run.steps
    if stopping or due:
        whole = simulation.whole(world)
        if whole is not None:
            keeper.keep(whole)
        simulation.communicator.await_leader()
    if stopping:
        raise Stopped(world.step)


def look(simulation: Simulation, world: World, observers: Sequence[Observer], history: list[Values]) -> None:
    """Measures and records what is due after the world's steps; `Diverged` if that is not finite."""
    due = metrics_due(simulation.run, world.step)
    row = measured(simulation, world, due)
    if row is not None:
        history.append(row)
        for observer in observers:
            observer.measured(row)
    recorded = _recorded(simulation.run, world.step)
    if recorded:
        ensemble = simulation.communicator.collect(world.ensemble.params)
        if ensemble is not None:
            for observer in observers:
                observer.snapshotted(world.step, ensemble)
    if due or recorded:
        simulation.communicator.await_leader()


def measured(simulation: Simulation, world: World, due: Sequence[Metric]) -> Values | None:
    """The row of the metrics due after the world's steps, or None; also but in the place that leads."""
    run, step = simulation.run, world.step
    if due or step == run.steps:
        check_finite(simulation, world)
    snapshot = simulation.snapshot(world) if due else None
    if snapshot is None:
        return None
    row: Values = {"step": step, "lr": run.learning_rate.at(min(step, run.steps - 1), run.steps)}
    last: Values = {"quarantined": run.n - snapshot.params.rows} if run.not_finite == "quarantine" else {}
    last["bytes_sent"] = world.bytes_sent
    for metric in due:
        row |= _columns(metric, metric(snapshot), (*row, *last))
    return row | last


def _columns(metric: Metric, found: object, taken: Collection[str]) -> Values:
    """What a metric found, as columns of its own; ValueError where it is something else, or a column is `taken`."""
    name = PARTS.get(type(metric), type(metric).__name__)
    if not isinstance(found, Mapping):
        raise ValueError(f"metric {name} returned a {type(found).__name__}; it must return a dict of numbers")
    for column, value in found.items():
        if not isinstance(column, str) or not _is_value(value):
            kind = type(value).__name__
            raise ValueError(f"metric {name} returned {kind} for {column!r}; allowed are names, each with {VALUES}")
        if column in taken:
            raise ValueError(
                f"metric {name} returned the column {column}, which is there already; give it another name"
            )
    return dict(found)


def _is_value(value: object) -> bool:
    """Whether a history can hold it; `item` is what a scalar of NumPy or torch has."""
    return isinstance(value, int | float | list | tuple | str | None) or getattr(value, "shape", None) == ()


def anything_due(run: Run, step: int) -> bool:
    """Whether something is measured or recorded after so many steps."""
    return bool(metrics_due(run, step)) or step == run.steps or _recorded(run, step)


def metrics_due(run: Run, step: int) -> list[Metric]:
    """What is measured after so many steps."""
    return [metric for metric in run.metrics if _due(metric, step, run)]


def _recorded(run: Run, step: int) -> bool:
    return bool(run.snapshot_every) and step % run.snapshot_every == 0


def _due(metric: Metric, step: int, run: Run) -> bool:
    every = run.measure_every if metric.every is None else metric.every
    return step == run.steps or (every > 0 and step % every == 0)


def check_finite(simulation: Simulation, world: World) -> None:
    """`Diverged`, everywhere the same, where a twin or a replica is not finite; in quarantine, if all are."""
    for name, twin in world.twins.items():
        if not twin.params.matrix.isfinite().all():
            steps = f"{world.step} step{'s' * (world.step != 1)}"
            sentence = f"the twin {name} is not finite after {steps}; lower learning_rate.lr"
            raise Diverged(sentence, world.step)
    finite = simulation.finite(world)
    enough = any if simulation.run.not_finite == "quarantine" else all
    if not enough(finite):
        raise not_finite(range(simulation.run.n), finite, world.step, simulation.run.n)
