"""A whole world on disk and back, such that a run continued from it goes on to the last bit.

    RUN/checkpoints/ckpt-000120/{replicas.safetensors, state.json, MANIFEST.json}

A checkpoint is complete or not there at all. The tensors are named by their path, `ensemble/memory/optimizer/momentum`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from dsgd import __version__
from dsgd.sealed import Damaged, check_files, manifest_of, remove, sealing
from dsgd.simulation import World
from dsgd.state import Memory, State, mapped
from dsgd.trees import Layout, Params

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "checkpoints"
FORMAT = 1
KEPT = 3  # generations
TENSORS, STATE = "replicas.safetensors", "state.json"

Place = tuple[str, ...]
Tell = Callable[[str], None]


class NotKept(RuntimeError):
    """A checkpoint could not be written; those before it are as they were."""


class Refused(ValueError):
    """A checkpoint that is whole, but not one to continue this run from."""


@dataclass(frozen=True)
class Checkpoint:
    """A world read from `path`; its run had trained for `seconds`."""

    path: Path
    world: World
    seconds: float


def save(
    run_folder: Path, world: World, origin: Mapping[str, str], seconds: float, damaged: Iterable[Path] = ()
) -> Path:
    """Writes a whole world, then removes the damaged generations and, up to it, all but the newest three.

    NotKept with path, bytes and reason, where it could not be written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = run_folder / FOLDER / f"ckpt-{world.step:06d}"
    tensors = {_name(place): tensor for place, tensor in _placed(world)}
    state = {"origin": dict(origin), "seconds": seconds, **_described(world)}
    note = {"format": FORMAT, "versions": {"dsgd": __version__, "torch": torch.__version__}}
    try:
        with sealing(path, note) as temporary:
            save_file(_apart(tensors), temporary / TENSORS)
            (temporary / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        size = sum(tensor.nbytes for tensor in tensors.values())
        raise NotKept(f"checkpoint {path} of {size} bytes could not be written ({_reason(error)})") from error
    for bad in damaged:
        if bad != path:
            remove(bad)
    for old in [found for found in generations(run_folder) if step_of(found) < world.step][: 1 - KEPT]:
        remove(old)
    return path


def generations(run_folder: Path) -> list[Path]:
    """A run's checkpoints, oldest first, damaged ones too."""
    found = (run_folder / FOLDER).glob("ckpt-*")
    return sorted((path for path in found if re.fullmatch(r"ckpt-\d+", path.name)), key=step_of)


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.name.removeprefix("ckpt-"))


def latest(
    run_folder: Path,
    origin: Mapping[str, str],
    layout: Layout,
    *,
    strict: bool = False,
    other_version: bool = False,
    tell: Tell = print,
) -> Checkpoint | None:
    """The newest checkpoint that is as it was written; None where there is none. `tell` is told of damaged ones.

    With `strict` Damaged where the newest is not. Refused where it is of another run, other data or another format, or
    of another version of dsgd's sources or torch: with `other_version` that is only told.
    """
    damaged: list[Damaged] = []
    found = None
    for path in reversed(generations(run_folder)):
        try:
            found = load(path, origin, layout, tell if other_version else None)
            break
        except Damaged as error:
            if strict:
                raise
            damaged.append(error)
    for why in damaged:
        tell(f"{why}; {f'{found.path.name} is taken instead' if found else 'there is no older one'}")
    return found


def load(path: Path, origin: Mapping[str, str], layout: Layout, warn: Tell | None = None) -> Checkpoint:
    """The checkpoint in a folder. Damaged, before anything of it is parsed, where a byte is not as it was written.

    Refused where its format, its run, data or layout are not those expected, or its version, if there is none to warn.
    """
    from safetensors.torch import load_file

    manifest = manifest_of(path)
    if (written := manifest.get("format")) != FORMAT:
        raise Refused(
            f"{path} has format {written}, and this dsgd {__version__} reads {FORMAT}; take the dsgd it is of"
        )
    check_files(path, manifest, (TENSORS, STATE))
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    _refuse_other(path, state, origin, layout)
    if state["origin"]["sources"] != origin["sources"]:
        differ = _versions_told(path, manifest["versions"]["dsgd"], state["origin"]["sources"], origin["sources"])
        if warn is None:
            raise Refused(f"{differ}; take that version, or go on in this one with --other-version")
        warn(f"{differ}; the numbers may be others than of one run")
    tensors = {_place(name): tensor for name, tensor in load_file(path / TENSORS).items()}
    _refuse_misfits(path, state, tensors, layout)
    return Checkpoint(path, _world(state, tensors, layout), state["seconds"])


def _refuse_other(path: Path, state: Mapping[str, Any], origin: Mapping[str, str], layout: Layout) -> None:
    for part, given in (("run", "config.yaml describes"), ("data", "the data and files here are")):
        kept, now = state["origin"][part], origin[part]
        if kept != now:
            raise Refused(f"{path} is of {part} {kept[:12]}, and {given} {now[:12]}; put back what it was, or run anew")
    if (kept := _layout(state)) != layout:
        raise Refused(
            f"{path} holds a model of {kept.d} parameters in another layout than the {layout.d} of this run's"
        )


def _versions_told(path: Path, dsgd: str, kept: str, now: str) -> str:
    """Both versions: a release, its sources in twelve digits, and torch's series."""
    own, ours = (f"{sources[:12]}{sources[64:]}" for sources in (kept, now))
    return f"{path} is of dsgd {dsgd}, sources {own}, and this is dsgd {__version__}, sources {ours}"


def _refuse_misfits(path: Path, state: Mapping[str, Any], tensors: Mapping[Place, Tensor], layout: Layout) -> None:
    """Refused where a tensor has not the shape or number type that the state tells."""
    params = {("ensemble", "params"), *(("twins", name, "params") for name in state["twins"])}
    if missing := params - tensors.keys():
        raise Refused(f"{path} lacks {', '.join(map(_name, missing))}")
    for place, tensor in tensors.items():
        rows = state["n"] if place[0] == "ensemble" else 1
        given = str(tensor.dtype), tuple(tensor.shape)
        asked = (state["dtype"], (rows, layout.d)) if place in params else (given[0], (rows, *given[1][1:]))
        if given != asked:
            raise Refused(
                f"{path} holds {_name(place)} as {given[0]} {given[1]}, its layout asks for {asked[0]} {asked[1]}"
            )


def _described(world: World) -> dict[str, Any]:
    """All of a world but its tensors, in JSON's types."""
    params = world.ensemble.params
    plain = {f.name: getattr(world, f.name) for f in fields(world) if f.name not in ("ensemble", "twins")}
    return {
        "world": plain,
        "n": params.rows,
        "dtype": str(params.matrix.dtype),
        "layout": {"names": params.layout.names, "shapes": params.layout.shapes},
        "ensemble": list(world.ensemble.memory),
        "twins": {name: list(twin.memory) for name, twin in world.twins.items()},
    }


def _world(state: Mapping[str, Any], tensors: Mapping[Place, Tensor], layout: Layout) -> World:
    """The tensors put in their places; a twin's are copied, for a mapped file has them where no tensor would start."""

    def within(*above: str) -> dict[Place, Tensor]:
        return {place[len(above) :]: t for place, t in tensors.items() if place[: len(above)] == above}

    ensemble = _state(within("ensemble"), state["ensemble"], layout)
    twins = {
        name: mapped(_state(within("twins", name), owners, layout), lambda tensor: tensor.clone())
        for name, owners in state["twins"].items()
    }
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in state["world"].items()
    }
    return World(ensemble=ensemble, twins=twins, **plain)


def _state(tensors: Mapping[Place, Tensor], owners: Sequence[str], layout: Layout) -> State:
    def under(*above: str) -> Memory:
        return {place[-1]: tensor for place, tensor in tensors.items() if place[:-1] == above}

    params = Params(tensors["params",], layout)
    return State(params, under("buffers"), {owner: under("memory", owner) for owner in owners})


def _placed(world: World) -> Iterator[tuple[Place, Tensor]]:
    """Every tensor of a world with its place in it."""
    yield from _placed_in(world.ensemble, "ensemble")
    for name, twin in world.twins.items():
        yield from _placed_in(twin, "twins", name)


def _placed_in(state: State, *above: str) -> Iterator[tuple[Place, Tensor]]:
    yield (*above, "params"), state.params.matrix
    for name, tensor in state.buffers.items():
        yield (*above, "buffers", name), tensor
    for owner, memory in state.memory.items():
        for name, tensor in memory.items():
            yield (*above, "memory", owner, name), tensor


def _name(place: Place) -> str:
    return "/".join(quote(part, safe="") for part in place)


def _place(name: str) -> Place:
    return tuple(map(unquote, name.split("/")))


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU as safetensors takes them: copied only where they are not whole, or share memory."""
    found: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        found[name] = own.clone() if own.untyped_storage().data_ptr() in storages else own
        storages.add(own.untyped_storage().data_ptr())
    return found


def _layout(state: Mapping[str, Any]) -> Layout:
    named = state["layout"]
    return Layout(tuple(named["names"]), tuple(map(tuple, named["shapes"])))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
