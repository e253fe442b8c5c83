"""A model made of a user's own function that builds a torch module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from dsgd.models.weights import load_weights

if TYPE_CHECKING:
    from torch import nn

    from dsgd.models.model import Model

BESIDE = ("smooth", "weights", "build", "files")  # what every model has


def from_torch(factory: Callable[..., nn.Module]) -> type[Model]:
    """The model of a function `(shape, classes, *, knobs)` -> module, its knobs those of the function; a decorator.

    Two more: `smooth` says whether the loss is C^4 in the parameters, and `weights` is the path of a safetensors state
    dict to start from. ValueError where the function has other arguments, and where a module is built that
    `check_module` refuses.
    """
    name = getattr(factory, "__name__", type(factory).__name__)
    knobs = _knobs(factory, name)

    def build(self: Any, shape: tuple[int, ...], classes: int) -> nn.Module:
        module = factory(shape, classes, **{knob: getattr(self, knob) for knob, *_ in knobs})
        check_module(module, name)
        if self.weights is not None:
            load_weights(module, Path(self.weights))
        return module

    def files(self: Any) -> tuple[Path, ...]:
        return () if self.weights is None else (Path(self.weights),)

    more = [("smooth", bool, field(default=False)), ("weights", str | None, field(default=None))]
    made = make_dataclass(name, [*knobs, *more], frozen=True, namespace={"build": build, "files": files})
    made.__module__, made.__qualname__, made.__doc__ = factory.__module__, name, inspect.getdoc(factory)
    return made


def _knobs(factory: Callable[..., Any], name: str) -> list[Any]:
    """The fields for the function's arguments behind `shape` and `classes`."""
    arguments = [*inspect.signature(factory).parameters.values()]
    if len(arguments) < 2 or any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in arguments):
        raise ValueError(f"{name} must take the inputs' shape, the number of classes, and its knobs by name")
    if taken := [one.name for one in arguments[2:] if one.name in BESIDE]:
        raise ValueError(f"{name} has an argument {taken[0]}, which every model has already; give it another name")
    hints = {one.name: type(one.default) for one in arguments[2:] if type(one.default) in (int, float, str, bool)}
    hints |= get_type_hints(factory)
    if vague := [one.name for one in arguments[2:] if one.name not in hints]:
        raise ValueError(f"{name} does not say of what type {vague[0]} is; annotate it, such as {vague[0]}: int")
    return [
        (one.name, hints[one.name], *([] if one.default is one.empty else [field(default=one.default)]))
        for one in arguments[2:]
    ]


def check_module(module: nn.Module, name: str) -> None:
    """ValueError for a layer of torch's that is random, or changes something in place, as batch normalisation does."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    if not isinstance(module, nn.Module):
        raise ValueError(f"{name} gave {type(module).__name__}; it must give a torch.nn.Module")
    for at, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.track_running_stats:
            raise ValueError(
                f"{name} has {type(layer).__name__} at {at or 'its top'}, whose running statistics change in place; "
                "take dsgd.kernels.batch_norm.batch_norm(channels), GroupNorm or LayerNorm"
            )
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
            raise ValueError(
                f"{name} has {type(layer).__name__} at {at or 'its top'}, whose rows change in place; drop max_norm"
            )
        if instead := _instead_of_random(layer):
            raise ValueError(
                f"{name} has {type(layer).__name__} at {at or 'its top'}, which is random; {instead}, or leave it out"
            )


def _instead_of_random(layer: nn.Module) -> str:
    """What to do about a layer that is random; empty for one that is not."""
    from torch import nn
    from torch.nn.modules.dropout import _DropoutNd

    if isinstance(layer, _DropoutNd) and layer.p > 0:
        return "give it p=0"
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0:
        return "give it dropout=0"
    if isinstance(layer, nn.RReLU):
        return "take LeakyReLU"
    return "take MaxPool" if isinstance(layer, nn.FractionalMaxPool2d | nn.FractionalMaxPool3d) else ""
