"""What a run that was computed elsewhere told its observers there, so that they can be told here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dsgd.backends.rank import Hello, check_versions, hello
from dsgd.loop import Observer, Result
from dsgd.metrics import Values
from dsgd.run import Run
from dsgd.snapshots import own_leaves

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Recorded:
    """An observer that keeps what it is told; how the run ended, on what machine, and after how many seconds."""

    told: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    outcome: Result | Exception | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def stepped(self, step: int) -> None:
        """Nothing: by the time it is told, all steps are done."""

    def measured(self, row: Values) -> None:
        self.told.append(("measured", (row,)))

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        self.told.append(("snapshotted", (step, own_leaves(params))))

    def event(self, event: str, **details: object) -> None:
        """Nothing: a run in one place has none."""

    def tell(self, observer: Observer) -> None:
        """Tells an observer all that was recorded."""
        for method, arguments in self.told:
            getattr(observer, method)(*arguments)


def recorded(runs: Sequence[Run], device: str, threads: int, owner: Hello) -> list[Recorded]:
    """Each run's recording, trained here in one pack; a run that fails has its error as outcome.

    VersionError where its numbers would not be those that the owner would compute.
    """
    import torch

    check_versions([owner, hello()])

    from dsgd.backends.local import LocalBackend
    from dsgd.results import environment

    torch.set_num_threads(threads)
    backend, recordings = LocalBackend(device), [Recorded(environment=environment(device)) for _ in runs]
    outcomes: Sequence[Result | Exception]
    began = time.perf_counter()
    try:
        if len(runs) > 1:
            outcomes = backend.train_pack(runs, [[one] for one in recordings])
        else:
            outcomes = [backend.train(runs[0], recordings)]
    except Exception as error:
        outcomes = [error] * len(runs)
    for one, outcome in zip(recordings, outcomes, strict=True):
        if isinstance(outcome, Result):
            outcome = replace(outcome, params=own_leaves(outcome.params))
        one.outcome, one.seconds = outcome, (time.perf_counter() - began) / len(runs)
    return recordings
