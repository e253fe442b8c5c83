"""The stacked parameters of an ensemble on disk, as safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dsgd.atomic import replacing
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "snapshots"


def snapshot_path(run: Path, step: int) -> Path:
    """Where the ensemble after `step` steps lies in a run's folder."""
    return run / FOLDER / f"step-{step:06d}.safetensors"


def snapshot_steps(run: Path) -> list[int]:
    """The steps of which the run's folder holds a snapshot, ascending."""
    found = (re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in (run / FOLDER).glob("step-*.safetensors"))
    return sorted(int(match[1]) for match in found if match)


def own_leaves(leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The leaves on the CPU, each with memory of its own: views of one matrix would each carry all of it along."""
    return {name: leaf.detach().cpu().clone().contiguous() for name, leaf in leaves.items()}


def write_leaves(path: Path, leaves: Mapping[str, Tensor]) -> None:
    """Writes stacked leaves, each of shape (n, ...), whole or not at all; the folder is made."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(own_leaves(leaves), str(temporary))


def read_leaves(path: Path) -> dict[str, Tensor]:
    """The stacked leaves of one file; ValueError where it is not a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a finished run")
    try:
        leaves: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from None
    return leaves


def read_snapshot(path: Path, layout: Layout) -> Params:
    """The ensemble of one file in the given layout; ValueError naming the first leaf that does not fit."""
    import torch

    leaves = read_leaves(path)
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        found = tuple(leaves[name].shape[1:]) if name in leaves else None
        if found != shape:
            raise ValueError(f"{path} holds {name} with shape {found}, the model needs {shape}; use the same model")
    return Params(torch.cat([leaves[name].flatten(1) for name in layout.names], dim=1), layout)
