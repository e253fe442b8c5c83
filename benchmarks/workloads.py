"""What is timed: one gradient step and one gossip of n replicas, on random examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsgd.data import DataSet, Examples
from dsgd.learning_rates import Constant
from dsgd.models import Cnn, Mlp, Model, ResNet8, ResNet18
from dsgd.run import Run
from dsgd.tasks import Task
from topologies import Static, Topology

Step = Callable[[], Any]

LR = 0.05
EXAMPLES = 6000
MODELS: dict[str, tuple[Model, tuple[int, ...]]] = {
    "mlp": (Mlp((200,)), (784,)),
    "cnn": (Cnn(), (1, 28, 28)),
    "resnet8": (ResNet8(), (3, 32, 32)),
    "resnet18": (ResNet18(), (3, 32, 32)),
}


@dataclass(frozen=True)
class Workload:
    """n replicas with mini-batches of `batch_size`, float32, the order `consensus`, on torch's `threads`."""

    model: str = "mlp"
    n: int = 16
    batch_size: int = 32
    graph: str = "ring"
    threads: int = 1

    def run(self) -> Run:
        model, shape = MODELS[self.model]
        return Run(
            task=Task(Noise(shape)),
            model=model,
            topology=Static(Topology(self.graph, self.n)),
            learning_rate=Constant(LR),
            batch_size=self.batch_size,
            metrics=(),
        )


@dataclass(frozen=True)
class Noise:
    """Random inputs and labels: how long a step takes does not depend on what they show."""

    shape: tuple[int, ...]

    def load(self) -> DataSet:
        stream = np.random.default_rng(0)
        x = stream.random((EXAMPLES, *self.shape), dtype=np.float32)
        examples = Examples(x, stream.integers(10, size=EXAMPLES))
        return DataSet(examples, examples, 10, "noise")
