"""The benchmark from the command line: which workloads, against whom, and where the figures go."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dsgd.backends.local import LocalBackend
from dsgd.cli.printed import say
from dsgd.config import ConfigError
from dsgd.config.checks import check_backend
from dsgd.results import environment
from dsgd.shipped import shipped_package

if TYPE_CHECKING:
    from pathlib import Path


def benchmarked(*, full: bool, compare: bool, device: str, seconds: float, out: Path | None) -> tuple[Any, str]:
    """The figures with the facts of the machine, and the same as a table; ConfigError for what cannot be run."""
    try:
        check_backend(LocalBackend(device))
    except ValueError as error:
        raise ConfigError(
            f"--device: {str(error).removeprefix('device is ').removeprefix('backend.device: ')}"
        ) from None
    if not seconds > 0:
        raise ConfigError(f"--seconds: {seconds:g} given; allowed is a number above 0")
    try:
        shipped_package("benchmarks")
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    suite, peers = (import_module(f"dsgd_benchmarks.{name}") for name in ("suite", "peers"))
    workloads = suite.ON_GPU if device == "cuda" else suite.FULL if full else suite.BRIEF
    others = peers.contenders if compare else (lambda *_: {})
    found = list(suite.rows(workloads, seconds, device, others, say))
    if out is not None:
        suite.write(out, found, device)
        say(f"written: {out}")
    return {"machine": environment(device), "rows": found}, suite.table(found)
