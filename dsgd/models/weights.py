"""A model's start read from the user's own safetensors file, because unpickling a torch checkpoint would run code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the state dict in the file into `model`; FileNotFoundError, or ValueError if it is another model's."""
    given = _state_dict(path)
    if misfits := _misfits(model.state_dict(), given):
        raise ValueError(
            f"The weights file {path} is of another model: {'; '.join(misfits)}. "
            "Save it with safetensors.torch.save_file from a model of the same settings."
        )
    model.load_state_dict(given)


def _state_dict(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(
            f"The weights file {path} does not exist: give the path of a safetensors state dict, or leave weights out."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"The weights file {path} is not a safetensors file ({error}): "
            "write the state dict with safetensors.torch.save_file."
        ) from error


def _misfits(expected: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """One phrase for the names that are missing, for those unknown, of another shape, and where only one has floats."""
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected]
    reshaped = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(leaf.shape)}"
        for name, leaf in expected.items()
        if name in given and given[name].shape != leaf.shape
    ]
    retyped = [
        f"{name} {given[name].dtype} instead of {leaf.dtype}"
        for name, leaf in expected.items()
        if name in given and given[name].is_floating_point() != leaf.is_floating_point()
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": reshaped, "of another type": retyped}
    return [f"{len(names)} {kind}, the first {names[0]}" for kind, names in kinds.items() if names]
