"""Checks each installed peer's driver against the formula of its round: python -m benchmarks.peers.check.

From w, the replicas after two rounds, the next round must give W w - lr g(w), or, of a peer that mixes first,
W w - lr g(W w): as a matrix and as the mean over the replicas, to 1e-5 in every entry. The order that a peer does not
have must miss, or the check could not tell them apart.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from ..peers import PEERS, Driver, available
from ..workloads import LR, MODELS, Workload
from .start import start

WORKLOADS = (Workload(n=3, batch_size=8), Workload(n=16, batch_size=32))
TOLERANCE = 1e-5


def examples(workload: Workload) -> tuple[Tensor, Tensor]:
    """A random mini-batch a replica: inputs (n, batch size, ...) and labels (n, batch size)."""
    stream, (_, shape) = np.random.default_rng(1), MODELS[workload.model]
    size = (workload.n, workload.batch_size)
    x = stream.standard_normal((*size, *shape), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(stream.integers(10, size=size))


def gradients(module: nn.Module, at: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of each replica's loss on its mini-batch, at its row of `at`: shape (n, d)."""
    shapes = {name: leaf.shape for name, leaf in module.named_parameters()}

    def loss(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
        flat = vector.split([shape.numel() for shape in shapes.values()])
        params = {name: part.view(shape) for part, (name, shape) in zip(flat, shapes.items(), strict=True)}
        return cross_entropy(functional_call(module, params, (x,)), y)

    return vmap(grad(loss))(at, x, y)


def gaps(driver: Driver, workload: Workload) -> dict[bool, float]:
    """By mixes_first, the largest error, of an entry or of the mean, in the round after two rounds."""
    x, y = examples(workload)
    w = workload.run().schedule(0).toarray()
    step = driver(workload, x, y, w)
    step()
    before, after = (_matrix(step()) for _ in range(2))
    mixed, module = torch.from_numpy(w).double() @ before, start(workload).double()
    found = {}
    for mixes_first in (False, True):
        change = LR * gradients(module, mixed if mixes_first else before, x.double(), y)
        errors = after - (mixed - change), after.mean(0) - (before.mean(0) - change.mean(0))
        found[mixes_first] = max(error.abs().max().item() for error in errors)
    return found


def _matrix(replicas: list[list[Tensor]]) -> Tensor:
    return torch.stack([parameters_to_vector(leaves).detach() for leaves in replicas]).double()


def main() -> None:
    """Prints the errors; leaves with status 1 where a driver misses its formula or no peer is installed."""
    failed = not available()
    for name, driver in available().items():
        for workload in WORKLOADS:
            found, own = gaps(driver, workload), PEERS[name].mixes_first
            print(f"{name}, n = {workload.n}: error {found[own]:.1e}, from the other order {found[not own]:.1e}")
            failed |= not found[own] < TOLERANCE < found[not own]
    sys.exit("a driver misses its formula, or no peer is installed: see benchmarks.peers" if failed else 0)


if __name__ == "__main__":
    main()
