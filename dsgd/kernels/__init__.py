"""How a network's losses and gradients are computed for a stack of parameters: one way a file, one rule to choose.

`vmapped` is the general way and the oracle; `stacked` runs chains of linear layers as batched products, `captured` the
same as CUDA graphs; `in_turn` takes the rows one after another, which for convolutions on a CPU is the quickest, for
each row's activations fit the cache. `two_layer` and `sim_bn` know the gradients of one network each in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dsgd.kernels.captured import Captured, cuda_graph
from dsgd.kernels.in_turn import InTurn
from dsgd.kernels.kernel import Criterion, Kernels, Network
from dsgd.kernels.sim_bn import SimBnByHand, normalises_by_data
from dsgd.kernels.stacked import Stacked, chain_of
from dsgd.kernels.two_layer import TwoLayerByHand, layers_of
from dsgd.kernels.vmapped import Vmapped
from dsgd.trees import Layout

if TYPE_CHECKING:
    from torch import nn

KERNELS: dict[str, Callable[[Network], Kernels]] = {
    "vmapped": Vmapped,
    "stacked": Stacked,
    "captured": lambda network: Captured(Stacked(network), cuda_graph),
    "in_turn": InTurn,
    "two_layer": TwoLayerByHand,
    "sim_bn": SimBnByHand,
}


def network(module: nn.Module, criterion: str | Criterion) -> Network:
    """The `Network` over a module's trainable parameters, in the module's own order, on the device where they lie."""
    shapes = {name: tuple(leaf.shape) for name, leaf in module.named_parameters()}
    layout = Layout(tuple(shapes), tuple(shapes.values()))
    return Network(module, layout, criterion, way_of(module, criterion))


def way_of(module: nn.Module, criterion: str | Criterion) -> str:
    """The kernels for a module: by a fixed rule and never by a timing, so that the numbers stay the same.

    Vmapped kernels are not captured: what torch.func does meanwhile, such as copies from the host, is not ours to know.
    """
    from torch import nn

    on_cpu = all(leaf.device.type == "cpu" for leaf in module.parameters())
    if criterion == "signed_squared_error" and layers_of(module):
        return "two_layer"
    if criterion == "signed_squared_error" and normalises_by_data(module):
        return "sim_bn"
    if criterion != "output" and chain_of(module):
        return "stacked" if on_cpu else "captured"
    convolves = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    return "in_turn" if on_cpu and convolves else "vmapped"


__all__ = ["KERNELS", "Criterion", "Kernels", "Network", "network", "way_of"]
