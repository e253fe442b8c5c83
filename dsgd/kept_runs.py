"""The runs of a study, each in a folder named by its key: what is missing is trained, in several processes if asked."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from dsgd import plugins, results

if TYPE_CHECKING:
    from dsgd.backends import Backend
    from dsgd.loop import Observer, Result
    from dsgd.run import Run

Progress = Callable[[int, int, str, float | None], None]
Missing = Mapping[str, tuple["Run", Path]]
Part = list[tuple[str, "Run", Path]]

RUNS_A_WORKER = 16  # with fewer, starting a process costs more than it saves


class StudyError(RuntimeError):
    """Some runs of a study failed; the message names the first and its error."""


@dataclass(frozen=True)
class KeptRuns:
    """Where a study's runs are kept, how the missing ones are trained, and whether one that diverged is finished."""

    folder: Path
    backend: Backend
    observers: tuple[Observer, ...]
    progress: Progress
    key: Callable[[Run], str]
    workers: int = 1
    accepts_divergence: bool = False
    runs_a_worker: int = RUNS_A_WORKER

    def folders(self, runs: Mapping[str, Run]) -> dict[str, Path]:
        """The folder of each run, by label; equal runs share one. FileNotFoundError where a run's data is missing."""
        return {label: self.folder / "runs" / self.key(run)[:20] for label, run in runs.items()}

    def train_missing(self, runs: Mapping[str, Run], folders: Mapping[str, Path]) -> int:
        """Train the runs that are not finished; returns how many. StudyError, after all, when some failed."""
        distinct = {folder: label for label, folder in folders.items()}
        missing = {label: (runs[label], folder) for folder, label in distinct.items() if not self._finished(folder)}
        finished, failures = len(distinct) - len(missing), []
        left = Remaining({label: run.steps for label, (run, _) in missing.items()})
        workers = max(1, min(self.workers, len(missing) // self.runs_a_worker))
        if getattr(self.backend, "spreads", False):
            outcomes = self._spread(missing)
        else:
            outcomes = self._side_by_side(missing, workers) if workers > 1 else self._in_turn(missing)
        self.progress(finished, len(distinct), next(iter(missing), ""), None)
        for done, (label, error) in enumerate(outcomes, start=1):
            left.took(label)
            self.progress(finished + done, len(distinct), label, left.seconds())
            if error is not None and not self._finished(folders[label]):
                failures.append((label, error))
        if failures:
            label, error = failures[0]
            many = f"{len(failures)} of {len(distinct)} runs failed, first " if len(failures) > 1 else "run "
            raise StudyError(f"{many}{label!r}: {error}")
        return len(missing)

    def _finished(self, folder: Path) -> bool:
        try:
            results.read_history(folder)
            summary = results.read_summary(folder)
            return summary["status"] == "ok" or (self.accepts_divergence and "diverged_after" in summary)
        except (OSError, ValueError, KeyError):
            return False

    def _in_turn(self, missing: Missing) -> Iterator[tuple[str, str | None]]:
        for part in self._parts(missing):
            yield from trained_into(part, self.backend, self.observers)

    def _side_by_side(self, missing: Missing, workers: int) -> Iterator[tuple[str, str | None]]:
        """Each process trains one part at a time with its share of the cores; observers are not told of steps."""
        threads = max(1, (os.cpu_count() or 1) // workers)
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (threads, plugins.carried()))
        try:
            waiting = [pool.submit(trained_into, part, self.backend) for part in self._parts(missing)]
            for done in as_completed(waiting):
                yield from done.result()
        except BrokenProcessPool:
            raise StudyError("a worker ended abruptly, likely out of memory; try --workers 1") from None
        except KeyboardInterrupt:
            _end_workers(pool)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _spread(self, missing: Missing) -> Iterator[tuple[str, str | None]]:
        """The backend has runs trained elsewhere, many at a time, and says here what they measured there."""
        parts = self._parts(missing)
        if not parts:
            return
        spread = self.backend.spread([[run for _, run, _ in part] for part in parts])  # type: ignore[attr-defined]
        for place, recordings in spread:
            for (label, run, path), recorded in zip(parts[place], recordings, strict=True):
                folder = _folder_of(run, path, self.backend, recorded.environment)
                recorded.tell(folder)
                yield label, _closed(folder, label, run, recorded.outcome, recorded.seconds)

    def _parts(self, missing: Missing) -> list[Part]:
        """The runs that are trained together."""
        items = [(label, *run_and_folder) for label, run_and_folder in missing.items()]
        runs = [run for _, run, _ in items]
        places = self.backend.packs(runs) if hasattr(self.backend, "packs") else [[i] for i in range(len(runs))]
        return [[items[i] for i in part] for part in places]


def trained_into(part: Part, backend: Backend, observers: tuple[Observer, ...] = ()) -> list[tuple[str, str | None]]:
    """Each run's label and, if it failed, its error in words. What an interrupted or failed call left is replaced."""
    kept = [_folder_of(run, folder, backend) for _, run, folder in part]
    began = time.perf_counter()
    outcomes = _outcomes([run for _, run, _ in part], backend, [(folder, *observers) for folder in kept])
    seconds = (time.perf_counter() - began) / len(part)
    return [
        (label, _closed(folder, label, run, outcome, seconds))
        for (label, run, _), folder, outcome in zip(part, kept, outcomes, strict=True)
    ]


def _closed(folder: results.RunFolder, label: str, run: Run, outcome: Result | Exception, seconds: float) -> str | None:
    """Ends a run's folder; its error in words, if it failed."""
    facts = {"label": label, "seconds": seconds}
    if isinstance(outcome, Exception):
        folder.fail(outcome, **facts)
        return results.describe_error(outcome)
    folder.finish(outcome.params, **facts, steps=run.steps, data_sha256=outcome.data_sha256)
    return None


def _folder_of(
    run: Run, folder: Path, backend: Backend, computed_on: Mapping[str, object] | None = None
) -> results.RunFolder:
    """A new folder in the place of what was there; `computed_on` is a machine, if not this one."""
    if folder.exists():
        shutil.rmtree(folder)
    device = getattr(backend, "device", "auto")
    return results.RunFolder.create(folder, run.describe() | plugins.recorded(), device=device, computed_on=computed_on)


def _outcomes(runs: list[Run], backend: Backend, observers: list[tuple[Observer, ...]]) -> Sequence[Result | Exception]:
    """Each run's result, or the error with which it ended."""
    try:
        if len(runs) > 1:
            found: Sequence[Result | Exception] = backend.train_pack(runs, observers)  # type: ignore[attr-defined]
            return found
        return [backend.train(runs[0], observers[0])]
    except Exception as error:
        return [error] * len(runs)


def default_workers(backend: Backend) -> int:
    """One process a core where each run is computed in one, on the CPU; one in all where runs share what there is."""
    from dsgd.backends.local import LocalBackend

    here = isinstance(backend, LocalBackend) and backend.torch_device().type == "cpu"
    return os.cpu_count() or 1 if here else 1


def _begin_worker(threads: int, known: tuple[plugins.Plugin, ...] = ()) -> None:
    """Limits torch's threads, and ends this process with the one that started it, however that one ends.

    The user's files that it is to know were run as they arrived.
    """
    import torch

    torch.set_num_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_workers(pool: ProcessPoolExecutor) -> None:
    """At once: an interrupt need not have reached them, and what they are at is trained again."""
    processes = getattr(pool, "_processes", None) or {}  # public from Python 3.14 on, as terminate_workers
    for process in list(processes.values()):
        process.terminate()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


class Remaining:
    """The seconds that the runs to come will take, at the pace a step has taken so far."""

    def __init__(self, steps: Mapping[str, int]) -> None:
        self.steps, self.taken, self.began = dict(steps), 0, time.perf_counter()

    def took(self, label: str) -> None:
        self.taken += self.steps.pop(label)

    def seconds(self) -> float | None:
        """None until a first run is done."""
        pace = (time.perf_counter() - self.began) / self.taken if self.taken else None
        return None if pace is None else pace * sum(self.steps.values())
