"""What this machine offers: versions, processors, data sets, and a place to write; nothing is changed."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dsgd import __version__
from dsgd.cli.printed import say
from dsgd.results import machine
from dsgd.tasks import TASKS

PACKAGES = ("torch", "numpy", "scipy", "networkx", "scikit-learn", "matplotlib", "pydantic", "ray", "cvxpy", "numba")


def checkup() -> dict[str, Any]:
    """Plain values for each thing looked at; None where it is not there, and `warnings` in sentences."""
    return {
        "dsgd": __version__,
        **machine(),
        "packages": {name: installed(name) for name in PACKAGES},
        "ray_importable": find_spec("ray") is not None,
        **_torch(),
        "data": {name: _found(kind) for name, kind in TASKS.items() if not _of_another(kind)},
        "runs_writable": writable(Path("runs")),
        "warnings": [warning] if (warning := torch_warning()) else [],
    }


def torch_warning() -> str | None:
    """A sentence where torch is newer than what was tested; nothing is refused for it."""
    version, asked = installed("torch"), torch_asked()
    if version is None:
        return f"torch is not installed: pip install '{asked}'"
    untested = re.search(r"<(\d+)\.(\d+)", asked)
    if untested is None or _series(version) < tuple(map(int, untested.groups())):
        return None
    return f"torch {version} is newer than any that dsgd was tested with ({asked})"


def warn_of_torch() -> None:
    if warning := torch_warning():
        say(f"warning: {warning}")


def torch_asked() -> str:
    """What dsgd's own package asks of torch, such as `torch<2.14,>=2.6`; no more than `torch` where not installed."""
    try:
        asked = metadata.requires("dsgd") or []
    except metadata.PackageNotFoundError:
        asked = []
    return next((line for line in asked if re.match(r"torch\b", line)), "torch")


def _series(version: str) -> tuple[int, ...]:
    """Major and minor number."""
    return tuple(int(part) for part in version.split(".")[:2])


def installed(package: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written to."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _torch() -> dict[str, Any]:
    """Threads and GPU as torch sees them."""
    try:
        import torch
    except ImportError:
        return {"threads": None, "cuda": None}
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads(), "cuda": cuda}


def _of_another(kind: type[Any]) -> bool:
    """Whether it is made from a data set in its knobs, and has no files of its own."""
    return "source" in {knob.name for knob in fields(kind)}


def _found(kind: type[Any]) -> str:
    """`found`, or the sentence that says what is missing and how to get it."""
    try:
        kind().load()
    except (ValueError, OSError, ImportError) as error:
        return str(error)
    return "found"
