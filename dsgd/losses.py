"""What is minimised: the loss of one example, from a model's outputs and the example's label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from topologies.arguments import KnobError

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.data import DataSet
    from dsgd.kernels import Criterion


class OwnLoss(Protocol):
    """A frozen value: outputs (..., B, classes) and labels (..., B) -> the loss of each example (..., B).

    By operations that torch can differentiate and vmap. A class attribute `smooth = False` says that it is not C^4.
    """

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class OfTask:
    """The loss that the task's data ask for: cross-entropy of its classes, where they do not say otherwise."""


Loss = OfTask | OwnLoss

LOSSES: dict[str, type[Any]] = {"of_task": OfTask}


def criterion(loss: Loss, data: DataSet) -> str | Criterion:
    """What a network of these data is trained by."""
    return data.criterion if isinstance(loss, OfTask) else loss


def check_loss(loss: Loss, data: DataSet) -> None:
    """ValueError where it has no outputs to judge, or does not give one number an example; imports torch."""
    import torch

    if isinstance(loss, OfTask):
        return
    name = type(loss).__name__
    if data.criterion == "output":
        raise KnobError("loss", f"loss is {name}, but the model's output is itself the loss; leave loss out")
    outputs, y = torch.zeros(2, 3, data.outputs), torch.zeros(2, 3, dtype=torch.int64)
    given = tuple(getattr(loss(outputs, y), "shape", ()))
    if given != (2, 3):
        raise KnobError(
            "loss",
            f"loss is {name}, which makes of outputs {tuple(outputs.shape)} and labels (2, 3) something of shape "
            f"{given}; it must be (2, 3), a number for each example",
        )
