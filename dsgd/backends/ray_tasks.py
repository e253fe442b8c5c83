"""Independent runs spread over a Ray cluster: a task each, tried again when its worker is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dsgd.backends.recorded import Recorded, recorded
from dsgd.backends.supervision import BackendError
from dsgd.run import Run


def spread(
    parts: Sequence[Sequence[Run]], cpus: float, gpus: float, restarts: int
) -> Iterator[tuple[int, list[Recorded]]]:
    """The place of each part and its runs' recordings, as they are done; the cluster is connected.

    A part whose worker was lost more than `restarts` times has BackendErrors for outcomes; the others go on.
    """
    import ray
    from ray.exceptions import RayError

    device, threads = "cuda" if gpus else "cpu", max(1, int(cpus))
    task = ray.remote(recorded).options(num_cpus=cpus, num_gpus=gpus, max_retries=restarts)
    waiting: dict[Any, int] = {task.remote(list(part), device, threads): place for place, part in enumerate(parts)}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            place = waiting.pop(reference)
            try:
                yield place, ray.get(reference)
            except RayError as error:
                yield place, [lost(error, restarts) for _ in parts[place]]


def lost(error: Exception, restarts: int) -> Recorded:
    """The recording of a run that came to nothing, as Ray tells it."""
    said = " ".join(str(error).split())[:200]
    return Recorded(outcome=BackendError(f"its worker was lost more than {restarts} times ({said})"))
