"""Keeping a run's worlds in its folder while it is trained, and stopping it there when that is wished."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgd.checkpoints import NotKept, generations, save, step_of

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.results import RunFolder
    from dsgd.simulation import World

ON_FULL_DISK = ("continue", "stop")


@dataclass(frozen=True)
class Keeping:
    """How a run is kept: a checkpoint every so many steps (0: only where it is stopped), and what if that fails."""

    checkpoint_every: int = 200
    on_full_disk: str = "continue"


@dataclass
class FolderKeeper:
    """A `dsgd.loop.Keeper` over a run's folder, for a run of so many `steps`.

    `wished` says whether the run shall stop; `warn` is told once of a checkpoint that could not be written, and again
    only after one that could. `seconds` are those for which the run was trained before; the generations found `damaged`
    go once a new one is whole.
    """

    folder: RunFolder
    keeping: Keeping
    steps: int
    origin: Mapping[str, str]
    wished: Callable[[], bool]
    warn: Callable[[str], None]
    seconds: float = 0.0
    damaged: Sequence[Path] = ()
    failure: Exception | None = None  # the first since a checkpoint was written; that by which a run stops stays
    began: float = field(default_factory=time.perf_counter)

    @property
    def every(self) -> int:
        return self.keeping.checkpoint_every

    def keep(self, world: World) -> None:
        """Writes a checkpoint, after the rows that were measured before it; what was kept stays where that fails.

        None at the end, which has a file of its own.
        """
        if world.step == self.steps:
            return
        seconds = self.seconds + time.perf_counter() - self.began
        try:
            self.folder.flush()
            save(self.folder.path, world, self.origin, seconds, self.damaged)
            self.damaged = ()
            if not self._stops:
                self.failure = None
        except (NotKept, OSError) as error:
            self._not_kept(error)

    def stopping(self) -> bool:
        return self.wished() or (self.failure is not None and self._stops)

    @property
    def _stops(self) -> bool:
        """Whether the run is to stop where a checkpoint cannot be written."""
        return self.keeping.on_full_disk == "stop"

    def _not_kept(self, error: Exception) -> None:
        with contextlib.suppress(OSError):  # the disk may be full
            self.folder.event("not_kept", error=str(error))
        if self.failure is None:
            self.failure = error
            kept = generations(self.folder.path)
            there = f"the newest is of step {step_of(kept[-1])}" if kept else "there is none before it"
            goes_on = "stops" if self._stops else "goes on"
            self.warn(f"warning: {error}; {there}, and the run {goes_on}")
