"""Folders of runs that lie: however a file is damaged, each command answers in sentences and harms nothing further."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from damage import DAMAGES, put_back
from guarded import answered, contents

from dsgd import cli

SMALL = ["task=digits", "task.train_size=100", "model.widths=[4]", "topology.n=3", "batch_size=4", "measure_every=4"]
FILES = (
    "config.yaml",
    "env.json",
    "metrics.jsonl",
    "events.jsonl",
    "summary.json",
    "ensemble.safetensors",
    "snapshots/step-000008.safetensors",
    "checkpoints/ckpt-000008/replicas.safetensors",
    "checkpoints/ckpt-000008/state.json",
    "checkpoints/ckpt-000008/MANIFEST.json",
)
Command = tuple[tuple[str, ...], tuple[str, ...]]  # its words, and the files that it writes
LOOKS: tuple[Command, ...] = (
    (("show", "RUN", "--json"), ()),
    (("runs", ".", "--json"), ()),
    (("compare", "RUN", "whole", "--json"), ()),
)
COMPUTES: tuple[Command, ...] = (
    (("report", "RUN", "--out", "page.html"), ("page.html",)),
    (("probe", "RUN", "--probe-size", "16"), ()),
    (("probe", "RUN", "--probe-size", "16", "--step", "8"), ()),
    (("landscape", "RUN", "--points", "3", "--examples", "16", "--out", "l.svg"), ("l.svg",)),
    (("run", "RUN/config.yaml", "--dry-run"), ()),
)
FEW = ("half", "fifo", "link_to_zero", "numbers", "deep")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended, with a snapshot and a checkpoint."""
    path = tmp_path_factory.mktemp("folders") / "finished"
    words = [*SMALL, "steps=12", "snapshot_every=4", "checkpoint_every=4"]
    assert cli.main(["run", *words, "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def begun(finished: Path) -> Path:
    """The same run as it was after eight steps, when its process was killed."""
    path = finished.with_name("begun")
    put_back(finished, path)
    for name in (
        "summary.json",
        "ensemble.safetensors",
        "checkpoints/ckpt-000012",
        "snapshots/step-000012.safetensors",
    ):
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink(missing_ok=True)
    return path


@pytest.fixture
def room(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put_back(finished, tmp_path / "whole")
    return tmp_path


def answers(room: Path, source: Path, name: str, damage: str, commands: tuple[Command, ...]) -> list[str]:
    """What is wrong with what the commands say of the damaged folder."""
    put_back(source, room / "RUN")
    if (room / "RUN" / name).is_file():
        DAMAGES[damage](room / "RUN" / name)
    found = []
    for words, writes in commands:
        before = contents(room)
        answer = answered(words, seconds=20)
        faults = answer.faults()
        if "--json" in words and answer.status == 0:
            json.loads(answer.out)
        if (after := {k: v for k, v in contents(room).items() if k not in writes}) != before:
            faults.append(f"changed: {sorted(set(after.items()) ^ set(before.items()))}")
        for written in writes:
            faults += ["written and refused"] if answer.status and (room / written).exists() else []
            (room / written).unlink(missing_ok=True)
        found += [f"{' '.join(words)} with {name} {damage}: {fault}" for fault in faults]
    return found


@pytest.mark.parametrize("name", FILES)
def test_who_looks_at_a_damaged_folder_is_told(room: Path, finished: Path, name: str) -> None:
    assert [fault for damage in FEW for fault in answers(room, finished, name, damage, LOOKS)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_who_looks_or_computes_on_a_folder_damaged_in_any_way_is_told(room: Path, finished: Path, name: str) -> None:
    found = []
    for place, damage in enumerate(DAMAGES):
        turn = COMPUTES[(place + FILES.index(name)) % len(COMPUTES)]
        found += answers(room, finished, name, damage, (*LOOKS, turn))
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_run_is_resumed_or_left_as_it_is(room: Path, begun: Path, finished: Path, name: str) -> None:
    found = []
    for damage in DAMAGES:
        put_back(begun, room / "RUN")
        if (room / "RUN" / name).is_file():
            DAMAGES[damage](room / "RUN" / name)
        before = contents(room / "RUN")
        answer = answered(["resume", "RUN"], seconds=20)
        faults = answer.faults()
        if answer.status == 2 and contents(room / "RUN") != before:
            faults.append(f"changed: {sorted(set(contents(room / 'RUN').items()) ^ set(before.items()))}")
        if answer.status == 0:
            ended = json.loads((room / "RUN" / "summary.json").read_text())["status"]
            faults += [] if ended == "ok" else [f"status {ended}"]
            same = (room / "RUN" / "ensemble.safetensors").read_bytes() == (
                finished / "ensemble.safetensors"
            ).read_bytes()
            if name != "config.yaml":
                faults += [] if same else ["another result"]
        found += [f"{name} {damage}: {fault}" for fault in faults]
    assert found == []
