"""Where a run is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dsgd.backends.local import LocalBackend
from dsgd.backends.processes import ProcessesBackend
from dsgd.backends.ray_actors import RayBackend
from dsgd.loop import Keeper, Observer, Result
from dsgd.run import Run
from dsgd.simulation import World


class Backend(Protocol):
    """`train(run, observers) -> Result`: the same numbers wherever it is computed.

    It starts from a whole `world` where one is given, and keeps such worlds by `keeper`: see `dsgd.loop.simulate`.
    """

    def train(
        self,
        run: Run,
        observers: Iterable[Observer] = (),
        world: World | None = None,
        keeper: Keeper | None = None,
    ) -> Result: ...


BACKENDS: dict[str, type[Backend]] = {"local": LocalBackend, "processes": ProcessesBackend, "ray": RayBackend}


def train(run: Run, *, device: str = "auto", observers: Iterable[Observer] = ()) -> Result:
    """Trains on this machine, in this process; see `Run` for the parts and `Result` for what comes back."""
    return LocalBackend(device).train(run, observers)
