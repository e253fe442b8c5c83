"""What a run needs in memory, known before it takes any."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from dsgd.run import FULL
from dsgd.tasks import module_for
from dsgd.trees import Layout, Params
from topologies.arguments import about

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dsgd.run import Run

ENSEMBLES = 4  # held at once beside the memories: replicas, gradients, what becomes of them, and one in passing
MOST_NUMBERS = 2**56  # of which torch can count the bytes


def weightless(run: Run) -> nn.Module:
    """The run's model, whose parameters take no memory; ValueError naming the model where it cannot be built."""
    import torch

    data = run.task.data.load()
    with about("model"), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights read from a file go nowhere
        try:
            return module_for(run.model, data)
        except RuntimeError as error:
            if "overflow" not in str(error):  # of a size of which torch cannot count the bytes
                raise
            raise ValueError(" ".join(str(error).split("\n")[0].split())) from None


def layout_of(run: Run) -> Layout:
    """Names and shapes of one replica's parameters; none of them takes memory."""
    module = weightless(run)
    shapes = {name: tuple(leaf.shape) for name, leaf in module.named_parameters()}
    return Layout(tuple(shapes), tuple(shapes.values()))


def needed(run: Run) -> int:
    """About how many bytes a run takes: its ensembles and memories, its data, and a mini-batch of every replica.

    ValueError naming the part that does not fit the model.
    """
    import torch

    dtype, data, layout = getattr(torch, run.dtype), run.task.data.load(), layout_of(run)
    if run.n * layout.d > MOST_NUMBERS:
        return ENSEMBLES * run.n * layout.d * dtype.itemsize
    p = Params(torch.empty(run.n, layout.d, dtype=dtype, device="meta"), layout)
    memories: list[Tensor] = []
    for part in ("gradient", "optimizer"):
        with about(part):
            memories += getattr(run, part).init(p).values()
    inputs = data.train.x.size + data.test.x.size
    if run.batch_size != FULL:
        inputs += run.n * int(run.batch_size) * (data.train.x.size // max(1, len(data.train)))
    return ENSEMBLES * p.matrix.nbytes + sum(tensor.nbytes for tensor in memories) + inputs * dtype.itemsize
