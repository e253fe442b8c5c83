"""All replicas' numbers as one, wherever they are held: for a world to keep, and for what metrics see of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgd.communicators import Communicator, finite_rows
from dsgd.metrics import Snapshot
from dsgd.run import Run
from dsgd.state import STATISTICS
from dsgd.step_rules import step_rule
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.simulation import Simulation, World


def gathered(communicator: Communicator, tensor: Tensor) -> Tensor:
    """All n replicas' rows of a tensor (rows, ...), everywhere."""
    return communicator.gather(_as_rows(tensor))["rows"]


def collected(communicator: Communicator, tensor: Tensor) -> Tensor | None:
    """All n replicas' rows of a tensor (rows, ...); None but in the place that leads."""
    found = communicator.collect(_as_rows(tensor))
    return None if found is None else found["rows"]


def counted(run: Run, p: Params) -> Params:
    """The replicas of all n that count: those not in quarantine."""
    return finite_rows(p) if run.not_finite == "quarantine" else p


def snapshot(simulation: Simulation, world: World) -> Snapshot | None:
    """All n replicas that count and the twins, with what metrics need; None but in the place that leads."""
    import torch

    run, communicator, device = simulation.run, simulation.communicator, simulation.train.x.device
    params = communicator.collect(world.ensemble.params)
    noted = world.ensemble.memory.get("gauges", {}) if _asked(run, "reads_gauges") else {}
    gauges = {name: collected(communicator, tensor) for name, tensor in noted.items()}
    statistics = {name: collected(communicator, tensor) for name, tensor in world.ensemble.buffers.items()}
    if params is None:
        return None

    def counting(rows: Tensor) -> Tensor:
        return rows[params.matrix.isfinite().all(dim=1)] if run.not_finite == "quarantine" else rows

    shards, replicas = simulation.feed.sampler.shards, counting(torch.arange(run.n, device=device)).tolist()
    return Snapshot(
        world.step,
        counted(run, params),
        simulation.network,
        simulation.train,
        simulation.test,
        run.smooth,
        run.seed,
        {name: state.params for name, state in world.twins.items()},
        None if shards is None else tuple(torch.from_numpy(shards[j]).to(device) for j in replicas),
        {name: counting(gauge) for name, gauge in gauges.items() if gauge is not None},
        None if (found := statistics.get(STATISTICS)) is None else counting(found),
        {name: state.buffers[STATISTICS] for name, state in world.twins.items() if state.buffers},
        run.running_statistics == "recalibrate",
        step_rule(run, world.step) if _asked(run, "reads_rule") else None,
    )


def _asked(run: Run, what: str) -> bool:
    """Whether a metric of the run reads it."""
    return any(getattr(metric, what, False) for metric in run.metrics)


def _as_rows(tensor: Tensor) -> Params:
    """A tensor (rows, ...) as what communicators carry."""
    return Params(tensor.reshape(tensor.shape[0], -1), Layout(("rows",), (tuple(tensor.shape[1:]),)))
