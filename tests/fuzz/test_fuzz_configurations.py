"""Configurations that lie: whatever is in them, `dsgd run` trains them or says why not, and leaves nothing behind.

`DSGD_FUZZ=10000` is how many the slow test draws, from `DSGD_FUZZ_FROM=0` on. One that failed is played again by
`DSGD_FUZZ=1 DSGD_FUZZ_FROM=NUMBER python -m pytest -m slow tests/fuzz/test_fuzz_configurations.py`.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from configurations import Case, drawn
from guarded import Answer, answered, contents

from dsgd.cli import estimates
from dsgd.config.sweeps import read_sweep

SAMPLE = 180
MANY = int(os.environ.get("DSGD_FUZZ", "10000"))
FIRST = int(os.environ.get("DSGD_FUZZ_FROM", "0"))
MOST_PARAMETERS, MOST_OF_A_KNOB = 200_000, 10_000  # of all replicas, of a run that is trained; samples, probes, pairs
USED = ("task=text model=transformer", "task=river", "model=cnn", "model={name: mlp, init: he} optimizer=adamw")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with files that are none, in which costs are hardly timed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DSGD_DATA", raising=False)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "loop.npy").symlink_to("loop.npy")
    (tmp_path / "zero.graphml").symlink_to("/dev/zero")
    for words in USED:  # what is imported at first use is not to be cut short
        assert answered(["run", "task=digits", *words.split(" ", 1), "--dry-run"], 60).faults() == []
    monkeypatch.setattr(estimates, "SECONDS_FOR_FIRST", 0.5)
    monkeypatch.setattr(estimates, "SECONDS_FOR_STEPS", 0.01)
    monkeypatch.setattr(estimates, "SECONDS_FOR_METRICS", 0.1)
    yield tmp_path
    faulthandler.cancel_dump_traceback_later()


def tried(room: Path, number: int, train_one_in: int) -> tuple[str, list[str]]:
    """What became of the configuration of this number, and what is wrong with that."""
    faulthandler.dump_traceback_later(
        120, exit=True, file=sys.__stderr__
    )  # what hangs outside of Python cannot be interrupted
    case = drawn(number)
    (room / "case.yaml").write_bytes(case.content)
    before = contents(room)
    answer = answered(["run", "case.yaml", *case.words, "--dry-run"])
    faults = answer.faults()
    if (after := contents(room)) != before:
        faults.append(f"left behind: {sorted({*after.items()} ^ {*before.items()})}")
    if answer.status != 0 or faults:
        return "refused", faults
    return trained(room, case) if number % train_one_in == 0 and is_small(case, answer) else ("accepted", faults)


def is_small(case: Case, answer: Answer) -> bool:
    """Whether it is one run, that a test can wait for."""
    if read_sweep(case.words).swept:
        return False
    config, told = yaml.safe_load(answer.out), answer.err.splitlines()
    parameters = next(int(line.split()[-3].replace(",", "")) for line in told if line.startswith("parameters"))
    return parameters < MOST_PARAMETERS and max(numbers_in(config | {"seed": 0, "steps": 0})) <= MOST_OF_A_KNOB


def numbers_in(value: Any) -> Iterator[float]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    yield value if isinstance(value, int | float) else 0
    for inner in inside:
        yield from numbers_in(inner)


def trained(room: Path, case: Case) -> tuple[str, list[str]]:
    """Two steps of it, really."""
    out, before = room / "trained", contents(room)
    answer = answered(["run", "case.yaml", *case.words, "steps=2", "backend=local", "--out", str(out), "--json"], 30)
    faults = answer.faults(allowed=(0, 1, 2))
    if answer.status == 2 and out.exists():
        faults.append("refused, and a folder is there")
    if answer.status == 1 and "\nfailed: " not in f"\n{answer.err}":
        faults.append(f"failed without a sentence: {answer.err}")
    if answer.status in (0, 1):
        told = json.loads(answer.out)
        faults += [] if json.loads((out / "summary.json").read_text()) == told else ["the summary is another"]
    shutil.rmtree(out, ignore_errors=True)
    if (after := contents(room)) != before:
        faults.append(f"left behind beside --out: {sorted({*after.items()} ^ {*before.items()})}")
    return {0: "trained", 1: "failed", 2: "refused"}.get(answer.status, "raised"), faults


def try_all(room: Path, numbers: range, train_one_in: int) -> Counter[str]:
    counts, found = Counter[str](), list[str]()
    for number in numbers:
        became, faults = tried(room, number, train_one_in)
        counts[became] += 1
        if faults:
            found.append(
                f"{number}: {faults} by {drawn(number).words}\n{drawn(number).content[:2000].decode(errors='replace')}"
            )
    assert not found, f"{len(found)} of {len(numbers)} configurations\n\n" + "\n\n".join(found[:5])
    return counts


def test_a_sample_of_configurations_is_trained_or_refused_in_sentences(room: Path) -> None:
    counts = try_all(room, range(SAMPLE), train_one_in=2)
    assert min(counts["refused"], counts["accepted"], counts["trained"]) > 3


@pytest.mark.slow
def test_many_configurations_are_trained_or_refused_in_sentences(
    room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = try_all(room, range(FIRST, FIRST + MANY), train_one_in=3)
    with capsys.disabled():
        print(f"\n{MANY} configurations: {dict(counts)}")
