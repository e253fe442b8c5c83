"""A checkpoint is the world to the last bit, or it is not taken for one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dsgd import checkpoints
from dsgd.checkpoints import Refused, generations, latest, save
from dsgd.communicators import Local
from dsgd.fingerprint import origin
from dsgd.footprint import layout_of
from dsgd.gradients import GRADIENTS
from dsgd.gradients.plain import Plain
from dsgd.gradients.weight_diversity import WeightDiversity
from dsgd.keeping import FolderKeeper, Keeping
from dsgd.loop import simulate
from dsgd.models import Mlp
from dsgd.optimizers import OPTIMIZERS, Optimizer, Sgd
from dsgd.results import RunFolder
from dsgd.run import Run
from dsgd.sealed import MANIFEST, Damaged
from dsgd.simulation import Simulation, World
from dsgd.state import State
from tests.worlds import CPU, FILES, Make, kept, newest, world_after

ALL_OPTIMIZERS: dict[str, Optimizer] = {name: kind() for name, kind in OPTIMIZERS.items()} | {
    "momentum": Sgd(momentum=0.9),
    "nesterov": Sgd(momentum=0.9, nesterov=True),
}


def tensors(world: World) -> dict[checkpoints.Place, torch.Tensor]:
    return dict(checkpoints._placed(world))


def assert_equal_worlds(one: World, other: World) -> None:
    for f in fields(World):
        if f.name not in ("ensemble", "twins"):
            assert getattr(one, f.name) == getattr(other, f.name)
    assert one.ensemble.params.layout == other.ensemble.params.layout
    assert one.ensemble.memory.keys() == other.ensemble.memory.keys()
    assert tensors(one).keys() == tensors(other).keys()
    for place, tensor in tensors(one).items():
        assert tensor.dtype == tensors(other)[place].dtype
        assert torch.equal(tensor, tensors(other)[place]), place


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("optimizer", ALL_OPTIMIZERS)
def test_a_world_comes_back_bit_by_bit(small: Make, tmp_path: Path, gradient: str, optimizer: str) -> None:
    run = small(
        gradient=GRADIENTS[gradient](),
        optimizer=ALL_OPTIMIZERS[optimizer],
        twins=(WeightDiversity(), Plain()),
        dtype="float32",
    )
    world = world_after(run, 3)
    path = save(tmp_path, world, origin(run), 2.5)
    found = newest(tmp_path, run)
    assert found is not None
    assert (found.path, found.seconds, path.name) == (path, 2.5, "ckpt-000003")
    assert_equal_worlds(found.world, world)
    simulation = Simulation(run, Local(4), CPU)
    assert_equal_worlds(simulation.advance(simulation.part(found.world)), simulation.advance(world))


def test_any_name_and_shared_memory_come_back(small: Make, tmp_path: Path) -> None:
    run = small()
    world = world_after(run, 0)
    matrix = world.ensemble.params.matrix
    own = {"a/b": matrix, "params": matrix[:, 1:3], "": torch.arange(4), "ü%2F": matrix.t().contiguous().t()}
    ensemble = State(world.ensemble.params, buffers=own, memory={"x/y": own, "none": {}})
    world = World(7, ensemble, {"a twin/": State(world.ensemble.params.row(0))}, bytes_sent=2**60)
    save(tmp_path, world, origin(run), 0.0)
    found = newest(tmp_path, run)
    assert found is not None
    assert_equal_worlds(found.world, world)


def test_nothing_is_there_before_it_is_whole_and_on_disk(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[str, bool]] = []
    flush = os.fsync

    def recording(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.partition(".tmp")[0]
        flushed.append((name, (tmp_path / "checkpoints" / "ckpt-000005").exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    kept(tmp_path, small(), 5)
    assert sorted(flushed[:3]) == sorted((name, False) for name in FILES)
    assert flushed[3:] == [("ckpt-000005", False), ("checkpoints", True)]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with three checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    kept(folder, a_run(), 10, 20, 30)
    return folder


def a_run(**fields: Any) -> Run:
    return Run(model=Mlp((4,)), steps=50, **fields)


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:size]


def flipped(content: bytes, place: int | None = None) -> bytes:
    at = len(content) // 2 if place is None else place
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut to nothing": cut(0),
    "cut to 10 bytes": cut(10),
    "cut to half": lambda content: content[: len(content) // 2],
    "cut by one byte": cut(-1),
    "one byte more": lambda content: content + b"\0",
    "one bit flipped": flipped,
    "first bit flipped": lambda content: flipped(content, 0),
    "last bit flipped": lambda content: flipped(content, len(content) - 1),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    three: Path, tmp_path: Path, file: str, damage: str
) -> None:
    folder = shutil.copytree(three, tmp_path / "run")
    path = folder / "checkpoints" / "ckpt-000030" / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    said: list[str] = []
    found = newest(folder, a_run(), tell=said.append)
    assert found is not None
    assert found.world.step == 20
    (sentence,) = said
    assert sentence.startswith(str(path))
    assert sentence.endswith("ckpt-000020 is taken instead")
    with pytest.raises(Damaged, match=file):
        newest(folder, a_run(), strict=True)


def test_every_bit_of_the_manifest_is_vouched_for(three: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(three, tmp_path / "run")
    path = folder / "checkpoints" / "ckpt-000030" / MANIFEST
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(flipped(content, place))
        with pytest.raises(Damaged):
            newest(folder, a_run(), strict=True)


def test_a_file_that_is_gone_is_damage_too_and_all_may_be_damaged(three: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(three, tmp_path / "run")
    for path, file in zip(generations(folder), FILES, strict=True):
        (path / file).unlink()
    said: list[str] = []
    assert newest(folder, a_run(), tell=said.append) is None
    assert [Path(sentence.partition(" cannot be read")[0]).name for sentence in said] == list(reversed(FILES))
    assert said[-1].endswith("; there is no older one")
    assert newest(tmp_path / "empty", a_run()) is None


def test_what_is_not_this_run_s_is_refused_by_name(three: Path, tmp_path: Path) -> None:
    run, known = a_run(), origin(a_run())
    with pytest.raises(Refused, match=rf"of run {known['run'][:12]}, and config.yaml describes [0-9a-f]{{12}}; put"):
        newest(three, a_run(seed=1))
    with pytest.raises(Refused, match=r"of data [0-9a-f]{12}, and the data and files here are 0123; put"):
        latest(three, known | {"data": "0123"}, layout_of(run))
    with pytest.raises(Refused, match=r"holds a model of 310 parameters in another layout than the 610 of this run's"):
        latest(three, known, layout_of(replace(run, model=Mlp((8,)))))
    with pytest.raises(
        Refused, match=r"of dsgd \S+, sources [0-9a-f]{12} with torch [\d.]+, and this is .* others; take"
    ):
        latest(three, known | {"sources": "others"}, layout_of(run))
    said: list[str] = []
    others = {"sources": "others"}
    assert latest(three, known | others, layout_of(run), other_version=True, tell=said.append) is not None
    assert len(said) == 1


def test_another_format_is_refused_naming_both(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    with pytest.raises(Refused, match=r"ckpt-000030 has format 1, and this dsgd \S+ reads 2"):
        newest(three, a_run())


def test_a_tensor_of_another_shape_or_type_is_refused(small: Make, tmp_path: Path) -> None:
    run = small()
    world = world_after(run, 1)
    path = save(tmp_path, world, origin(run), 0.0)
    state = json.loads((path / checkpoints.STATE).read_text())
    found = {place: tensor.float() for place, tensor in tensors(world).items()}
    with pytest.raises(
        Refused, match=r"ensemble/params as torch.float32 \(4, 610\), its layout asks for torch.float64"
    ):
        checkpoints._refuse_misfits(path, state, found, layout_of(run))
    found = {place: tensor[:3] for place, tensor in tensors(world).items()}
    with pytest.raises(Refused, match=r"\(3, 610\), its layout asks for torch.float64 \(4, 610\)"):
        checkpoints._refuse_misfits(path, state, found, layout_of(run))
    with pytest.raises(Refused, match=r"lacks ensemble/params"):
        checkpoints._refuse_misfits(path, state, {}, layout_of(run))


def test_three_generations_are_kept(small: Make, tmp_path: Path) -> None:
    kept(tmp_path, small(), 5, 900, 999_999, 1_000_000, 1_000_005)
    assert [checkpoints.step_of(path) for path in generations(tmp_path)] == [999_999, 1_000_000, 1_000_005]
    assert newest(tmp_path, small()).world.step == 1_000_005  # type: ignore[union-attr]
    kept(tmp_path, small(), 7)  # gone back to, so not removed for those that are to come again
    assert [checkpoints.step_of(path) for path in generations(tmp_path)] == [7, 999_999, 1_000_000, 1_000_005]


def test_one_of_the_same_step_is_replaced(small: Make, tmp_path: Path) -> None:
    (path,) = kept(tmp_path, small(), 5)
    (path / checkpoints.TENSORS).write_bytes(b"")
    kept(tmp_path, small(), 5)
    assert newest(tmp_path, small(), strict=True) is not None


@pytest.mark.parametrize(("every", "expected"), [(5, [5, 10, 15]), (0, []), (20, []), (200, [])])
def test_checkpoints_come_every_so_many_steps_but_not_at_the_end(
    small: Make, tmp_path: Path, every: int, expected: list[int]
) -> None:
    run = small()
    folder = RunFolder.create(tmp_path / "run", run.describe(), device="cpu")
    keeper = FolderKeeper(folder, Keeping(every), run.steps, origin(run), lambda: False, print)
    simulate(Simulation(run, Local(4), CPU), (folder,), keeper=keeper)
    assert [checkpoints.step_of(path) for path in generations(folder.path)] == expected


def test_a_checkpoint_holds_no_pickle_and_copies_nothing_it_need_not(small: Make, tmp_path: Path) -> None:
    (path,) = kept(tmp_path, small(), 5)
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    named = {"params": world_after(small(), 0).ensemble.params.matrix}
    assert checkpoints._apart(named)["params"].data_ptr() == named["params"].data_ptr()
