"""Two hundred command lines that lie, each a process of its own; `DSGD_FUZZ_FROM=17` draws others.

They end in a documented status: 0, 2 with a sentence and nothing changed, or 1 where a run failed, which says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import hostile
import pytest
from configurations import drawn
from damage import DAMAGES, put_back
from guarded import contents

from dsgd import cli

COUNT = 200
FIRST = int(os.environ.get("DSGD_FUZZ_FROM", "0")) * COUNT
SECONDS = 120
SMALL = ["task=digits", "task.train_size=60", "model.widths=[3]", "topology.n=3", "batch_size=4", "steps=4"]
OPTIONS = (
    *("--json", "--dry-run", "--out", "--device", "--plugin", "--track", "--workers", "--strict", "--step", "--seed"),
    *("--kind", "--points", "--preset", "-n", "--weights", "-p", "--plot", "--csv", "--svg", "--pdf", "--version"),
    *(
        "--insecure-cluster",
        "--other-version",
        "--allow-disconnected",
        "--unknown",
        "-x",
        "--help",
        "--",
        "--probe-size",
    ),
)
VALUES = (
    *(
        "run",
        "gone",
        "case.yaml",
        "ring",
        "digits",
        "equivalence",
        "0",
        "-1",
        "1e3",
        "nan",
        "9" * 30,
        "out.html",
        "a/b/c",
    ),
    *(
        "fifo.yaml",
        "folder.yaml",
        "link.yaml",
        "parts.py",
        "page.svg",
        "seed=0,1",
        "steps=2",
        "a=b",
        "=",
        "é",
        "name=../x",
    ),
    *hostile.NAMES,
    *hostile.PATHS,
    *hostile.CODE,
    *(text for text in hostile.CHARACTERS if len(text) < 100),
)
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {  # each with arguments that are right
    "run": (
        ("case.yaml", "--dry-run"),
        ("case.yaml",),
        ("case.yaml", "steps=1", "--out", "made"),
        (*SMALL, "--dry-run"),
    ),
    "resume": (("run",), ("run", "--strict", "--json")),
    "report": (("run", "--out", "page.html"),),
    "compare": (("run", "run2"), ("run", "run2", "--json")),
    "show": (("run",), ("run", "--json")),
    "runs": ((".",), (".", "--json")),
    "probe": (("run", "--probe-size", "8", "--json"),),
    "landscape": (("run", "--points", "3", "--examples", "8", "--out", "l.svg"),),
    "topology": (("show", "ring", "-n", "5", "--json"), ("show", "grid", "-n", "7"), ("show", "g.json")),
    "list": (("gradients",), ("graphs", "--json"), ()),
    "study": (("gone",), ("equivalence", "steps=x"), ("case.yaml",), ("equivalence", "--preset", "gone")),
    "studies": (("--json",),),
    "doctor": (("--json",),),
    "bench": (("--seconds", "x"), ("--device", "tpu")),
    "gone": ((),),
}
WEIGHTS = (10, 3, 3, 3, 3, 2, 2, 2, 4, 2, 2, 1, 1, 1, 1)
DEAR = ("study", "bench", "doctor")  # whose right arguments are not only looked at


@dataclass(frozen=True)
class Line:
    """A command line, what is done to the folder before it is run, and whether it may train."""

    words: tuple[str, ...]
    damaged: tuple[str, str] | None
    case: bytes


def line(number: int) -> Line:
    random = Random(f"command line {number}")
    command = random.choices(list(COMMANDS), WEIGHTS)[0]
    words = [command, *random.choice(COMMANDS[command])]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        words = mistaken(words, random, command in DEAR)
    damaged = None
    if random.random() < 0.4:
        name = random.choice(("config.yaml", "metrics.jsonl", "summary.json", "ensemble.safetensors", "events.jsonl"))
        damaged = name, random.choice(list(DAMAGES))
    return Line(
        tuple(word.replace("\x00", "").replace("\ud800", "\udcff") for word in words),
        damaged,
        drawn(random.randrange(10**6)).content,
    )


def mistaken(words: list[str], random: Random, dear: bool) -> list[str]:
    place = random.randrange(1, len(words) + 1) if words else 0
    way = random.choice(("option", "option", "value", "value", "drop", "twice", "instead"))
    if way == "option":
        return [*words[:place], random.choice(OPTIONS), *words[place:]]
    if way == "value":
        return [*words[:place], random.choice(VALUES), *words[place:]]
    if way == "instead" and place < len(words) and not dear:
        return [*words[:place], random.choice(VALUES), *words[place + 1 :]]
    if way == "twice":
        return [*words, *words[place:]]
    return words if dear else [*words[: place - 1], *words[place:]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "run"
    assert cli.main(["run", *SMALL, "--out", str(path)]) == 0
    return path


def faults(number: int, trained: Path, room: Path) -> tuple[int, list[str]]:
    """How the process ended, and what is wrong with that."""
    asked = line(number)
    room.mkdir()
    put_back(trained, room / "run")
    put_back(trained, room / "run2")
    (room / "case.yaml").write_bytes(asked.case)
    (room / "g.json").write_text('{"n": 3, "edges": [[0, 1], [1, 2]]}')
    (room / "parts.py").write_text("raise ValueError('mine')")
    (room / "folder.yaml").mkdir()
    os.mkfifo(room / "fifo.yaml")
    (room / "link.yaml").symlink_to("link.yaml")
    if asked.damaged:
        DAMAGES[asked.damaged[1]](room / "run" / asked.damaged[0])
    before = contents(room)
    done = subprocess.run(
        [sys.executable, "-m", "dsgd.cli", *(word.encode("utf-8", "surrogateescape") for word in asked.words)],
        cwd=room,
        capture_output=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    failed = done.returncode == 1 and "\nfailed: " in f"\n{err}"
    found = [] if done.returncode in (0, 2) or failed else [f"status {done.returncode}"]
    found += ["a traceback"] if "Traceback" in out + err else []
    found += ["no sentence"] if done.returncode == 2 and not err.strip() else []
    found += [f"a line of {len(one)}" for one in err.splitlines() if len(one) > 700]
    found += ["not printable"] if not all(one.isprintable() for one in err.splitlines()) else []
    if done.returncode == 2 and contents(room) != before:
        found.append(f"changed {sorted({*contents(room).items()} ^ {*before.items()})}")
    if (room / "hit").exists():
        found.append("ran what it was given")
    if done.returncode == 0 and "--json" in asked.words and not {"--help", "--version"} & {*asked.words}:
        found += parsed(out)
    shutil.rmtree(room)
    return done.returncode, [f"{number} {asked.words} {asked.damaged}: {fault}\n{err[:1500]}" for fault in found]


def parsed(out: str) -> list[str]:
    try:
        json.loads(out)
    except ValueError:
        return [f"no JSON: {out[:200]}"]
    return []


@pytest.mark.slow
def test_two_hundred_command_lines_end_in_0_or_2_or_in_1_that_says_what_failed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = range(FIRST, FIRST + COUNT)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        ended = list(pool.map(lambda number: faults(number, trained, tmp_path / str(number)), numbers))
    wrong = [fault for _, found in ended for fault in found]
    assert not wrong, f"{len(wrong)} faults\n\n" + "\n".join(wrong[:20])
    with capsys.disabled():
        print(f"\n{COUNT} command lines: {dict(Counter(status for status, _ in ended))}")
