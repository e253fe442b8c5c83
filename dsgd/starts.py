"""Where a run begins: at weights that its seed fixes, pre-trained or not, the same for all replicas or each its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsgd.data import DataSet
from dsgd.losses import criterion
from dsgd.matrices import new_matrix
from dsgd.objectives import Network, network
from dsgd.randomness import Key
from dsgd.run import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def start_network(run: Run, data: DataSet, dtype: torch.dtype, device: torch.device) -> Network:
    """The model with the start that `run.seed` fixes, and what it is trained by."""
    return network(_drawn(run, data).to(device, dtype), criterion(run.loss, data))


def starts(run: Run, module: nn.Module, replicas: Sequence[int]) -> Tensor:
    """The starts of these replicas, (rows, d): the parameters of `module`, or each replica's own."""
    row = start_row(module)
    matrix = new_matrix(len(replicas), row).copy_(row)
    if run.starts == "own":
        data = run.task.data.load()
        for i, replica in enumerate(replicas):
            matrix[i : i + 1] = start_row(_drawn(run, data, replica))
    return matrix


def start_row(module: nn.Module) -> Tensor:
    """A module's parameters, (1, d)."""
    import torch

    return torch.cat([leaf.detach().reshape(-1) for leaf in module.parameters()])[None]


def _drawn(run: Run, data: DataSet, *whose: Key) -> nn.Module:
    """The model at the start of the seed, or of one replica; on the CPU, so that it is the same on every device."""
    return run.pretraining.start(run.model, data, run.seed, *whose)
