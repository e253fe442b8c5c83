"""What only its graph, its data, its files or its machine show to be wrong with a run; looked at before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd.config.problems import REFUSALS, ConfigError, collected, refused
from dsgd.config.topology import blame_topology
from dsgd.footprint import needed, weightless
from dsgd.memory import available
from dsgd.simulation import check, check_fit, mixing

if TYPE_CHECKING:
    from collections.abc import Callable

    from dsgd.backends import Backend
    from dsgd.run import Run
    from topologies import Schedule


def check_run(run: Run) -> None:
    """ConfigError for what the graph, the data set and the user's files show; torch is not imported."""
    collected(
        {
            "topology": lambda: _check_graph(run.topology),
            "task": lambda: _blamed("task", run.task.data.load),
            "files": lambda: _check_files(run),
        }
    )
    _blamed("", lambda: check(run))


def check_model(run: Run) -> None:
    """ConfigError where the model cannot be built for the data, or another part does not fit them; imports torch.

    The model takes no memory, so that one which nobody could train is refused for what it is.
    """
    data = run.task.data.load()
    _blamed("", lambda: check_fit(run, data, weightless(run)))
    _blamed("", lambda: needed(run))


def check_memory(run: Run, backend: Backend) -> None:
    """ConfigError where the run needs more memory than this machine can give; imports torch, takes no memory."""
    if not hasattr(backend, "torch_device"):
        return
    found: list[int] = []
    _blamed("", lambda: found.append(needed(run)))
    there = available(backend.torch_device())
    if there is not None and found[0] > there:
        needs, has = (f"{size / 1e9:,.1f} GB" for size in (found[0], there))
        smaller = "n or model" if run.dtype == "float32" else "n or model, or dtype=float32"
        raise ConfigError(f"the run needs about {needs} of memory and {has} are available; take a smaller {smaller}")


def check_backend(backend: Backend, run: Run | None = None) -> None:
    """ConfigError where this machine lacks the device asked for, or the run cannot be shared out; imports torch."""
    if hasattr(backend, "check") and run is not None:
        _blamed("backend", lambda: backend.check(run))
    if hasattr(backend, "torch_device"):
        _blamed("backend", backend.torch_device)


def _check_graph(schedule: Schedule) -> None:
    try:
        mixing(schedule)(0)
    except REFUSALS as error:
        raise blame_topology(error, "topology") from None


def _check_files(run: Run) -> None:
    """Of all files but those of the topology, whose graph and matrix were just looked at."""
    topology = getattr(mixing(run.topology), "topology", None)
    elsewhere = topology.files() if topology else ()
    missing = [path for path in run.files() if path not in elsewhere and not path.is_file()]
    if missing:
        raise ConfigError(*(f"{path}: no such file; correct its path in the configuration" for path in missing))


def _blamed(path: str, look: Callable[[], Any]) -> None:
    try:
        look()
    except REFUSALS as error:
        raise refused(error, path, ("device",)) from None
