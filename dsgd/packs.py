"""Runs that differ in seed, graph or the data's draw as one ensemble: their rows one below the other, W block-diagonal.

A step of a small run costs more in calls than in arithmetic; a pack pays for the calls once. Each run keeps its own
streams, mini-batches and metrics, and its numbers are those that it has alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from math import lcm
from operator import add
from typing import TYPE_CHECKING

import topologies
from dsgd.algorithms import ALGORITHMS, Step
from dsgd.communicators import Local
from dsgd.divergence import Diverged, not_finite
from dsgd.gossip import Mix, gossiped
from dsgd.kernels.batch_norm import batch_norms
from dsgd.kernels.sim_bn import joint, one_for_all
from dsgd.loop import Observer, Result, anything_due, look
from dsgd.metrics import Split, Values
from dsgd.mixing import neighbours, operator_of_blocks
from dsgd.objectives import Batch, Objective, Tilted, network
from dsgd.perturbations import Noise
from dsgd.run import Run
from dsgd.simulation import MOST_MATRICES, Simulation, World, estimated
from dsgd.state import Memory, State, mapped
from dsgd.tasks import Feeds, Task, module_for
from dsgd.trees import Params, Scaled

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MOST_ROWS = 1024
MOST_NUMBERS = 2**22  # of a pack's ensemble: beyond, a step is arithmetic anyway


def packs(runs: Sequence[Run]) -> list[list[int]]:
    """The places of the runs, parted into packs of runs alike but for seed, graph and the data set's draw.

    Most are alone in theirs.
    """
    open_packs: dict[str, list[int]] = {}
    most: dict[str, int] = {}
    found: list[list[int]] = []
    for place, run in enumerate(runs):
        kind = replace(run, seed=0, topology=topologies.OnePeerExponential(run.n), task=_any_draw(run.task))
        named = repr(kind)  # parts that a user brings need not hash
        if named not in most:
            most[named] = _most(kind)
        if len(open_packs.get(named, ())) % most[named] == 0:
            open_packs[named] = []
            found.append(open_packs[named])
        open_packs[named].append(place)
    return found


def _any_draw(task: Task) -> Task:
    return replace(task, data=getattr(task.data, "alike", task.data))


def _most(kind: Run) -> int:
    """How many runs of a kind go together; one where they draw on all replicas at once, or are large already."""
    if kind.twins or kind.not_finite == "quarantine" or not getattr(kind.gradient, "row_wise", False):
        return 1
    data = kind.task.data.load()
    module = module_for(kind.model, data)
    if batch_norms(module) or not one_for_all(network(module, data.criterion)):
        return 1
    d = sum(leaf.numel() for leaf in module.parameters())
    return max(1, min(MOST_ROWS // kind.n, MOST_NUMBERS // (kind.n * d)))


@dataclass(frozen=True)
class Worlds:
    """All runs of a pack after `step` steps, the bytes that each has sent, and how those ended that diverged."""

    step: int
    ensemble: State
    bytes_sent: tuple[int, ...]
    diverged: Mapping[int, Diverged] = field(default_factory=dict)


Matrices = list[topologies.MixingMatrix]


class Pack:
    """Runs of one shape made ready on a device."""

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        self.simulations = _simulations(runs, device)
        self.run, self.n = runs[0], runs[0].n
        self.network = joint([simulation.network for simulation in self.simulations], self.n)
        self._feeds = Feeds([simulation.feed for simulation in self.simulations])
        self._rows = tuple(row for simulation in self.simulations for row in simulation.rows)
        self._period = _common_period([run.schedule.period for run in runs])
        self._one_by_one = bool(self.run.gradient_noise) or self.simulations[0].feed.takes_all
        self._matrices: dict[int, Matrices] = {}
        self._ready: tuple[Matrices, Mix] | None = None
        self._made: tuple[Matrices, list[list[int]], list[int]] | None = None

    def start(self) -> Worlds:
        """Every run at its own start."""
        starts = [simulation.start().ensemble for simulation in self.simulations]
        return Worlds(0, _joined(starts), (0,) * len(starts))

    def advance(self, worlds: Worlds) -> Worlds:
        """One step of all runs; one with a loss that is not finite ends there, as alone."""
        step, run, lost = worlds.step, self.run, dict[int, Diverged]()
        at = run.when(step)
        ws = self._mixing_matrices(step)
        objective = self._objective(step)
        plan, rounds = run.gossip.plan(at), list[list[int]]()
        noise = Noise(step, self._rows)

        def estimate(state: State) -> tuple[State, Params]:
            state, found = estimated(run.gradient, objective, noise, at, state)
            lost.update(self._not_finite(found.loss, step))
            return state, found.grads

        def mix(p: Params, plus: Scaled | None = None) -> Params:
            mixed, made = gossiped(p, plan, partial(self._mixed, ws), self._trace_xi, plus)
            rounds.append(made[:: self.n])
            return mixed

        moves = Step(estimate, self.simulations[0].updating(at), mix, self._average)
        ensemble = ALGORITHMS[run.algorithm](worlds.ensemble, moves)
        sent = map(add, worlds.bytes_sent, self._bytes_of(ws, rounds))
        return Worlds(step + 1, ensemble, tuple(sent), {**lost, **worlds.diverged})

    def _not_finite(self, loss: Tensor, step: int) -> dict[int, Diverged]:
        """By their place, the runs with a loss that is not finite; on a GPU that is seen when measured."""
        if loss.is_cuda or (finite := loss.isfinite()).all():
            return {}
        runs = enumerate(finite.view(-1, self.n).tolist())
        return {place: not_finite(range(self.n), own, step, self.n) for place, own in runs if not all(own)}

    def _mixing_matrices(self, step: int) -> Matrices:
        """Each run's W_t; the same list again where the schedules are back at the same matrices."""
        if self._period is None:
            return [simulation.mixing_matrix(step) for simulation in self.simulations]
        phase = step % self._period
        if phase not in self._matrices:
            self._matrices[phase] = [simulation.mixing_matrix(step) for simulation in self.simulations]
        return self._matrices[phase]

    def _bytes_of(self, ws: Matrices, rounds: list[list[int]]) -> list[int]:
        """What each run sends in a step with each round's count a run."""
        if self._made is None or self._made[0] is not ws or self._made[1] != rounds:
            counts = map(sum, zip(*rounds, strict=True)) if rounds else repeat(0)
            bytes_of = (each.bytes_of(w, count) for each, w, count in zip(self.simulations, ws, counts, strict=False))
            self._made = ws, rounds, list(bytes_of)
        return self._made[2]

    def _objective(self, step: int) -> Objective:
        """The losses of all runs' replicas, row for row."""
        if not self._one_by_one:
            return Batch(self.network, *self._feeds.examples(step))
        return self._side_by_side([simulation.objective(step) for simulation in self.simulations])

    def _side_by_side(self, objectives: Sequence[Objective]) -> Objective:
        import torch

        first = objectives[0]
        if isinstance(first, Tilted):
            tilted = [each for each in objectives if isinstance(each, Tilted)]
            inner = self._side_by_side([each.inner for each in tilted])
            return Tilted(inner, torch.cat([each.noise for each in tilted]))
        if not isinstance(first, Batch) or (first.shared and all(each.x is first.x for each in objectives)):
            return first

        def rows(part: Tensor) -> Tensor:
            return part.expand(self.n, *part.shape) if first.shared else part

        x, y = (torch.cat([rows(getattr(each, part)) for each in objectives]) for part in ("x", "y"))
        return Batch(self.network, x, y)

    def world(self, worlds: Worlds, place: int) -> World:
        """One run's own world."""
        rows = slice(place * self.n, (place + 1) * self.n)
        return World(
            worlds.step, mapped(worlds.ensemble, lambda tensor: tensor[rows]), bytes_sent=worlds.bytes_sent[place]
        )

    def _mixed(self, ws: Matrices, p: Params, plus: Scaled | None = None) -> Params:
        if self._ready is None or self._ready[0] is not ws:
            self._ready = ws, self._mixing(ws, p)
        return self._ready[1](p, plus)

    def _mixing(self, ws: Matrices, like: Params) -> Mix:
        if all(isinstance(w, topologies.Identity) for w in ws):
            return lambda p, plus=None: p if plus is None else p + plus
        if all(isinstance(w, topologies.Mean) for w in ws):
            return lambda p, plus=None: self._average(p) if plus is None else self._average(p) + plus
        blocks = operator_of_blocks([neighbours(w) for w in ws], like.matrix)
        return lambda p, plus=None: p.like(blocks(p.matrix, plus))

    def _trace_xi(self, p: Params) -> Tensor:
        """Tr Xi of each row's run."""
        squares = (self._average(p) - p).matrix.square().sum(dim=1)
        return squares.view(-1, self.n).mean(dim=1).repeat_interleave(self.n)

    def _average(self, p: Params) -> Params:
        blocks = p.matrix.view(len(self.simulations), self.n, -1)
        return p.like(blocks.mean(dim=1, keepdim=True).expand_as(blocks).reshape(p.rows, -1))


def simulate_pack(pack: Pack, observers: Sequence[Sequence[Observer]]) -> list[Result | Diverged]:
    """Takes all steps of all runs and measures each as if it were alone; one that is no longer finite ends there.

    `observers` are each run's own. A result's seconds are the pack's, shared out evenly.
    """
    began = time.perf_counter()
    histories: list[list[Values]] = [[] for _ in pack.simulations]
    worlds = _looked(pack, pack.start(), observers, histories)
    while worlds.step < pack.run.steps and len(worlds.diverged) < len(histories):
        worlds = pack.advance(worlds)
        for place, own in enumerate(observers):
            for told in own if place not in worlds.diverged else ():
                told.stepped(worlds.step)
        if anything_due(pack.run, worlds.step):
            worlds = _looked(pack, worlds, observers, histories)
    seconds = (time.perf_counter() - began) / len(histories)

    def result(place: int) -> Result:
        params = dict(pack.world(worlds, place).ensemble.params)
        return Result(params, histories[place], seconds, pack.simulations[place].data_sha256)

    return [worlds.diverged.get(place) or result(place) for place in range(len(histories))]


def _looked(
    pack: Pack, worlds: Worlds, observers: Sequence[Sequence[Observer]], histories: Sequence[list[Values]]
) -> Worlds:
    """What is due is measured in all runs that go on; those found to have diverged are noted in the worlds returned."""
    diverged = dict(worlds.diverged)
    for place, simulation in enumerate(pack.simulations):
        if place not in diverged:
            try:
                look(simulation, pack.world(worlds, place), observers[place], histories[place])
            except Diverged as error:
                diverged[place] = error
    return replace(worlds, diverged=diverged)


def _joined(states: Sequence[State]) -> State:
    """The states one below the other."""
    import torch

    first = states[0]
    params = first.params.like(torch.cat([state.params.matrix for state in states]))
    buffers = _stacked([state.buffers for state in states])
    memory = {owner: _stacked([state.memory[owner] for state in states]) for owner in first.memory}
    return State(params, buffers, memory)


def _stacked(memories: Sequence[Memory]) -> Memory:
    import torch

    return {name: torch.cat([memory[name] for memory in memories]) for name in memories[0]}


def _common_period(periods: Sequence[int | None]) -> int | None:
    """Steps after which all schedules are where they were, or None where one never is or it takes long."""
    known = [period for period in periods if period is not None]
    common = lcm(*known)
    return common if len(known) == len(periods) and common <= MOST_MATRICES else None


def _simulations(runs: Sequence[Run], device: torch.device) -> list[Simulation]:
    """The runs made ready; those of the same data share its place on the device."""
    splits: dict[str, tuple[Split, Split]] = {}
    found = list[Simulation]()
    for run in runs:
        data = repr(run.task.data)
        found.append(Simulation(run, Local(run.n), device, splits.get(data)))
        splits[data] = found[-1].train, found[-1].test
    return found
