"""What is usually written instead: a Python loop over modules, each with its optimizer, mixed tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from dsgd.simulation import Simulation

from .workloads import LR, Step

Heard = list[tuple[int, float]]


def papers_loop(simulation: Simulation) -> Step:
    """The pattern of the released code of Zhu et al. 2023, written anew.

    Every replica has a data loader and a scheduler; gossip goes over all n^2 entries of W; the mean model is made anew
    at each step.
    """
    modules, optimizers, heard = _replicas(simulation, dense=True)
    loaders = [_batches(simulation) for _ in modules]
    schedulers = [torch.optim.lr_scheduler.MultiStepLR(o, [10**9]) for o in optimizers]

    def step() -> None:
        before = [module.state_dict() for module in modules]
        for module, optimizer, scheduler, loader, row in zip(
            modules, optimizers, schedulers, loaders, heard, strict=True
        ):
            module.train()
            _differentiate(module, optimizer, *next(loader))
            _hear(module, before, row)
            optimizer.step()
            scheduler.step()
        _mean_model(modules)

    return step


def sparse_loop(simulation: Simulation) -> Step:
    """The same without what could be left out: only neighbours, no mean model, mini-batches from resident tensors."""
    modules, optimizers, heard = _replicas(simulation, dense=False)
    at = 0

    def step() -> None:
        nonlocal at
        batch = simulation.feed.batch(at)
        at += 1
        before = [module.state_dict() for module in modules]
        for module, optimizer, x, y, row in zip(modules, optimizers, batch.x, batch.y, heard, strict=True):
            _differentiate(module, optimizer, x, y)
            _hear(module, before, row)
            optimizer.step()

    return step


def centralised(simulation: Simulation) -> Step:
    """One SGD step of one model on the joint mini-batch: the least that anyone pays for these gradients."""
    module = fresh_module(simulation)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)
    at = 0

    def step() -> None:
        nonlocal at
        joint = simulation.feed.batch(at).joint()
        at += 1
        _differentiate(module, optimizer, joint.x, joint.y)
        optimizer.step()

    return step


def fresh_module(simulation: Simulation) -> nn.Module:
    """The model at the run's start, a module of its own."""
    return deepcopy(simulation.network.module)


def _replicas(simulation: Simulation, *, dense: bool) -> tuple[list[nn.Module], list[torch.optim.SGD], list[Heard]]:
    """Modules, their optimizers, and for each the replicas that it hears with their weights."""
    modules = [fresh_module(simulation) for _ in range(simulation.run.n)]
    optimizers = [torch.optim.SGD(module.parameters(), lr=LR) for module in modules]
    rows = simulation.run.schedule(0).toarray().tolist()
    return modules, optimizers, [[(j, a) for j, a in enumerate(row) if dense or a] for row in rows]


def _batches(simulation: Simulation) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches for ever, by torch's loader."""
    data = TensorDataset(simulation.train.x, simulation.train.y)
    size = simulation.feed.sampler.batch_size
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(data, batch_size=size, shuffle=True, drop_last=True)
    for again in repeat(loader):
        yield from again


def _differentiate(module: nn.Module, optimizer: torch.optim.SGD, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(module(x), y).backward()


def _hear(module: nn.Module, before: list[dict[str, Tensor]], row: Heard) -> None:
    for name, leaf in module.named_parameters():
        leaf.data = torch.zeros_like(leaf.data)
        for j, weight in row:
            leaf.data += before[j][name].data * weight


def _mean_model(modules: list[nn.Module]) -> nn.Module:
    mean = deepcopy(modules[0])
    for name, leaf in mean.named_parameters():
        for module in modules[1:]:
            leaf.data += module.state_dict()[name].data
        leaf.data /= len(modules)
    return mean
