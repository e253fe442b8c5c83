"""A run as a process of its own, which tells in lines of JSON how far it is and how it ended: see `Driven`."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from dsgd.config import load, resolved
from dsgd.results import RunFolder
from dsgd.simulation import World

SECONDS_TO_LEAVE = 10.0


class Driven:
    """`python -m tests.driven FOLDER EVERY WORDS`, started by `start`; what it told so far is in `told`."""

    def __init__(self, start: Callable[..., Popen[str]], folder: Path, every: int, *words: str, **how: Any) -> None:
        self.folder, self.told = folder, list[dict[str, Any]]()
        self.said = folder.with_suffix(".stderr")
        with self.said.open("w") as said:
            command = (sys.executable, "-m", "tests.driven", folder, str(every), *words)
            self.process = start(*command, stdout=PIPE, stderr=said, **how)
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, key: str, at_least: float = 0, seconds: float = 60) -> dict[str, Any]:
        """The first line to come that tells of `key`, and no less of it; TimeoutError with what was told instead."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self.told.append(self._lines.get(timeout=left))
                if key in self.told[-1] and (not at_least or self.told[-1][key] >= at_least):
                    return self.told[-1]
                if "status" in self.told[-1]:
                    break
        raise TimeoutError(f"no {key} within {seconds:g} s, but {self.told[-3:]}\n{self.said.read_text()}")

    def ended(self, seconds: float) -> dict[str, Any]:
        """How it ended, once the process is gone."""
        last = self.until("ended", seconds=seconds)
        self.until("status", seconds=SECONDS_TO_LEAVE)
        return last

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):  # Ray prints here too
                self._lines.put(json.loads(line))
        self._lines.put({"status": self.process.wait()})


class Told:
    """An observer that tells of what it is told."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def tell(self, **what: Any) -> None:
        print(json.dumps({"seconds": round(time.monotonic() - self.began, 2)} | what), flush=True)

    def stepped(self, step: int) -> None:
        self.tell(step=step)

    def measured(self, row: Mapping[str, Any]) -> None:
        """Nothing: rows are in the run's folder."""

    def snapshotted(self, step: int, params: Mapping[str, Any]) -> None:
        """Nothing: so are snapshots."""

    def event(self, event: str, **details: Any) -> None:
        self.tell(event=event, **details)


class Keeping:
    """A keeper in memory, where the run's owner holds the newest world anyway."""

    def __init__(self, every: int) -> None:
        self.every = every

    def keep(self, world: World) -> None:
        """Nothing."""

    def stopping(self) -> bool:
        return False


def main(folder: str, every: str, *words: str) -> None:
    config, told = load(None, words), Told()
    into = RunFolder.create(folder, resolved(config))
    try:
        result = config.backend.train(config.run, (into, told), None, Keeping(int(every)))
    except Exception as error:
        into.fail(error)
        told.tell(ended=type(error).__name__, sentence=str(error))
    else:
        into.finish(result.params)
        told.tell(ended="ok", bytes_crossed=result.bytes_crossed)


if __name__ == "__main__":
    main(*sys.argv[1:])
