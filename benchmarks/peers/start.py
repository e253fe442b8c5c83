"""The model that every replica of a workload starts from, as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..workloads import MODELS

if TYPE_CHECKING:
    from torch import nn

    from ..workloads import Workload


def start(workload: Workload) -> nn.Module:
    """A new module from inputs (batch, ...) to logits (batch, 10), with torch's initial weights."""
    model, shape = MODELS[workload.model]
    return model.build(shape, 10)
