"""A round of gossipy (Polato, 2022; gossipy-dfl 0.0.1): each handler is copied for each neighbour, merged and trained.

A node of gossipy's simulator wakes at its own tick and sends to one random neighbour. This is the synchronous round
that its handlers allow: `caching`, one deepcopy a message, then the handler's call on all that a node received. The
nodes and the simulator need torchvision, and add to these two calls ticks, queues and an evaluation a round.

Its order is merge, then update: w_i <- sum_j W_ij w_j, then w_i <- w_i - lr g_i(w_i). The gradient is at the mixed
model; the only other order, update then merge, also trains each received model on the receiver's data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from gossipy import CACHE, CacheKey
from gossipy.core import CreateModelMode
from gossipy.model.handler import TorchModelHandler
from torch.nn.functional import cross_entropy

from ..workloads import LR
from .start import start

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..workloads import Step, Workload


def step(workload: Workload, x: Tensor, y: Tensor, w: np.ndarray) -> Step:
    """A round of n handlers; w must weigh a node and its neighbours equally, or ValueError."""
    neighbours, batches = _neighbours(w), list(zip(x, y, strict=True))
    first = _handler(workload)
    handlers = [first, *(first.copy() for _ in range(workload.n - 1))]

    def one_round() -> list[list[nn.Parameter]]:
        received: list[list[CacheKey]] = [[] for _ in handlers]
        for i, handler in enumerate(handlers):
            for j in neighbours[i]:
                received[j].append(handler.caching(i))
        for handler, keys, batch in zip(handlers, received, batches, strict=True):
            handler([CACHE.pop(key) for key in keys], batch)
        return [list(handler.model.parameters()) for handler in handlers]

    return one_round


def _handler(workload: Workload) -> TorchModelHandler:
    return TorchModelHandler(
        start(workload),
        torch.optim.SGD,
        {"lr": LR},
        cross_entropy,
        batch_size=workload.batch_size,
        create_model_mode=CreateModelMode.MERGE_UPDATE,
        copy_model=False,
    )


def _neighbours(w: np.ndarray) -> list[list[int]]:
    heard = w > 0
    if not np.allclose(w, heard / heard.sum(1, keepdims=True)):
        raise ValueError("gossipy merges with equal weights, w has others; give a regular graph, such as a ring")
    return [[int(j) for j in np.flatnonzero(column) if j != i] for i, column in enumerate(heard.T)]
