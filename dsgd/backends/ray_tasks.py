"""Independent runs spread over a Ray cluster: a task each, tried again when its worker is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dsgd.backends.rank import Hello, hello
from dsgd.backends.recordings import Recorded, recorded
from dsgd.backends.supervision import BackendError
from dsgd.plugins import Plugin, carried
from dsgd.run import Run


def spread(
    parts: Sequence[Sequence[Run]], cpus: float, gpus: float, restarts: int
) -> Iterator[tuple[int, list[Recorded]]]:
    """The place of each part and its runs' recordings, as they are done; the cluster is connected.

    A part whose worker was lost more than `restarts` times has BackendErrors for outcomes; the others go on.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError, WorkerCrashedError

    device, threads, owner = "cuda" if gpus else "cpu", max(1, int(cpus)), hello()
    task = ray.remote(_recorded).options(num_cpus=cpus, num_gpus=gpus, max_retries=restarts)
    sent = [(carried(), list(part)) for part in parts]
    waiting: dict[Any, int] = {task.remote(part, device, threads, owner): at for at, part in enumerate(sent)}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            place = waiting.pop(reference)
            try:
                yield place, ray.get(reference)
            except WorkerCrashedError:
                yield place, _failed(f"its worker was lost more than {restarts} times", len(parts[place]))
            except RayTaskError as error:
                yield place, _failed(str(error.cause), len(parts[place]))
            except RayError as error:
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                yield place, _failed(said, len(parts[place]))


def _recorded(sent: tuple[tuple[Plugin, ...], list[Run]], device: str, threads: int, owner: Hello) -> list[Recorded]:
    """The recordings of runs; the user's files, which come first, are run before their classes are looked for."""
    return recorded(sent[1], device, threads, owner)


def _failed(sentence: str, count: int) -> list[Recorded]:
    """The recordings of so many runs that came to nothing."""
    return [Recorded(outcome=BackendError(sentence)) for _ in range(count)]
