"""Decentralized SGD on simulated networks, and what it has to do with sharpness-aware minimization."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsgd.backends import train as train
    from dsgd.config import load_config as load_config
    from dsgd.loop import Result as Result
    from dsgd.metrics import probe as probe
    from dsgd.registry import register as register
    from dsgd.run import Run as Run
    from dsgd.tasks import Task as Task
    from dsgd.wrapping import wrap as wrap

__version__ = "0.1.0"

_PUBLIC = {
    "Result": "dsgd.loop",
    "Run": "dsgd.run",
    "Task": "dsgd.tasks",
    "load_config": "dsgd.config",
    "probe": "dsgd.metrics",
    "register": "dsgd.registry",
    "train": "dsgd.backends",
    "wrap": "dsgd.wrapping",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import dsgd` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dsgd' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
