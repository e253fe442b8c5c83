"""Gradients as CUDA graphs, one a shape of inputs: a small step on a GPU costs its launches, and a graph is one launch.

The inputs are copied to fixed places, the graph is replayed over them, and what it leaves is copied out. Beyond a fixed
size the arithmetic hides the launches and the copies would cost: there the kernels are run as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.kernels.kernel import Kernels
from dsgd.trees import Params

if TYPE_CHECKING:
    from torch import Tensor

MOST_NUMBERS = 2**22  # of a stack: copied in and out in some ten microseconds, where twenty launches take a hundred
MOST_MULTIPLICATIONS = 2**30  # some hundred microseconds in float32
KEPT = 16  # shapes, each with places for its inputs and results: training, twins and probes
WARM_UP = 3  # runs before the recording, as torch's documentation has it

Compute = Callable[[], tuple["Tensor", "Tensor"]]
Record = Callable[[Compute], Compute]


@dataclass(frozen=True)
class Recorded:
    """A computation on what lies in `places`; `replay` returns the same tensors each time, filled anew."""

    places: tuple[Tensor, ...]
    replay: Compute

    def on(self, given: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """The results for other inputs of the same shapes, as new tensors."""
        for place, tensor in zip(self.places, given, strict=True):
            place.copy_(tensor)
        loss, grads = self.replay()
        return loss.clone(), grads.clone()


class Captured:
    """The kernels `inner`, their gradients recorded for the first `KEPT` shapes of inputs that are launch-bound.

    `record` takes a computation that reads and writes fixed places only, and returns how to do it again. What `inner`
    does must not depend on the inputs' numbers, wait for the device or copy from the host.
    """

    def __init__(self, inner: Kernels, record: Record) -> None:
        self.inner, self.record = inner, record
        self._recorded: dict[Hashable, Recorded] = {}

    def logits(self, p: Params, x: Tensor, shared: bool) -> Tensor:
        return self.inner.logits(p, x, shared)

    def loss_and_grad(
        self, p: Params, x: Tensor, y: Tensor, shared: bool, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:

        given = (p.matrix, x, y) if weights is None else (p.matrix, x, y, weights)
        key = shared, *((tensor.shape, tensor.dtype, tensor.device) for tensor in given)
        if key not in self._recorded:
            if len(self._recorded) == KEPT or not launch_bound(p.rows, p.layout.d, y.shape[-1]):
                return self.inner.loss_and_grad(p, x, y, shared, weights)
            self._recorded[key] = self._record(p, shared, given)
        return self._recorded[key].on(given)

    def _record(self, p: Params, shared: bool, given: tuple[Tensor, ...]) -> Recorded:
        import torch

        places = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in given)
        matrix, x, y, *weights = places
        arguments = p.like(matrix), x, y, shared, weights[0] if weights else None
        return Recorded(places, self.record(lambda: self.inner.loss_and_grad(*arguments)))


def launch_bound(rows: int, d: int, examples: int) -> bool:
    """Whether the gradients of `rows` on `examples` each take less time than their launches: by a fixed rule."""
    return rows * d <= MOST_NUMBERS and 3 * rows * d * examples <= MOST_MULTIPLICATIONS


def cuda_graph(compute: Compute) -> Compute:
    """The computation as a CUDA graph; its first runs, in which libraries make themselves ready, are not part of it."""
    import torch

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            compute()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = compute()

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return results

    return replay
