"""A round of pfl (Granqvist et al. 2024, arXiv 2404.06430; pfl 0.6.0): users in turn in one resident model.

pfl knows a star alone, so gossip is a federated algorithm of our own, run by pfl's loop, backend, cohort and SGD step.
No statistics go to its server. The order is consensus: w_i <- sum_j W_ij w_j - lr g_i(w_i).

Importing pfl sets the start method of torch.multiprocessing to forkserver.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import MinimizeReuseUserSampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.bridge import FrameworkBridgeFactory
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.stats import MappedVectorStatistics
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..workloads import LR
from .start import start

if TYPE_CHECKING:
    from ..workloads import Step, Workload


def step(workload: Workload, x: Tensor, y: Tensor, w: np.ndarray) -> Step:
    """A round is one central iteration with all n users as its cohort."""
    module = Classifier(start(workload))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    gossip, backend = Gossip(model, w), _backend(x, y)
    training = NNTrainHyperParams(workload.batch_size, local_num_epochs=1, local_learning_rate=LR)
    once = NNAlgorithmParams(0, evaluation_frequency=1, train_cohort_size=workload.n, val_cohort_size=None)
    rounds = count(1)

    def one_round() -> list[list[Tensor]]:
        until = replace(once, central_num_iterations=next(rounds))
        gossip.run(until, backend, model, training, send_metrics_to_platform=False)
        return [list(state.values()) for state in gossip.states]

    return one_round


class Classifier(nn.Module):
    """A module in the form that pfl's PyTorchModel wants, with `loss` and `metrics`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(self.module(x), y)

    def metrics(self, *_: Any) -> dict[str, Any]:
        """Nothing: a round does not evaluate."""
        return {}


class Gossip(FederatedAveraging):
    """Decentralized SGD with pfl's hooks: a user's step leaves from its own state, the server's part mixes the states.

    Of federated averaging it keeps only the contexts of a central iteration.
    """

    def __init__(self, model: PyTorchModel, w: np.ndarray) -> None:
        super().__init__()
        self.states = [model.get_parameters() for _ in w]
        self.stepped = [model.get_parameters() for _ in w]
        self.changes = [[(int(j), float(row[j])) for j in np.flatnonzero(row)] for row in w - np.eye(len(w))]

    def simulate_one_user(self, model: PyTorchModel, user_dataset: Any, central_context: Any) -> tuple[None, Metrics]:
        """Leaves w_i - lr g_i(w_i) in `stepped`."""
        i = user_dataset.user_id
        model.set_parameters(self.states[i])
        FrameworkBridgeFactory.sgd_bridge().do_sgd(model, user_dataset, central_context.model_train_params)
        model.get_parameters(self.stepped[i])
        return None, Metrics()

    def process_aggregated_statistics_from_all_contexts(
        self, stats_context_pairs: Any, aggregate_metrics: Metrics, model: PyTorchModel
    ) -> tuple[PyTorchModel, Metrics]:
        """Adds (W - I) w to what the users left, so that the states are W w - lr g."""
        for i, change in enumerate(self.changes):
            for j, weight in change:
                _add(self.stepped[i], self.states[j], weight)
        self.states, self.stepped = self.stepped, self.states
        return model, Metrics()


def _add(to: MappedVectorStatistics, other: MappedVectorStatistics, weight: float) -> None:
    for name, leaf in to.items():
        leaf.add_(other[name], alpha=weight)


def _backend(x: Tensor, y: Tensor) -> SimulatedBackend:
    def user(i: int) -> PyTorchTensorDataset:
        return PyTorchTensorDataset((x[i], y[i]), user_id=i)

    users = FederatedDataset(user, MinimizeReuseUserSampler(range(len(x))))
    return SimulatedBackend(users, users)
