"""How much memory there is, and whether it ran out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CGROUPS = Path("/sys/fs/cgroup")
SAID = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")


def available(device: torch.device) -> int | None:
    """Bytes that can still be had on a device; None where the system does not say."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min((*_of_machine(), *_of_cgroups(), *_of_process()), default=None)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory could not be had; torch has no class of its own for that on the CPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(phrase in str(error).lower() for phrase in SAID)


def _of_machine() -> Iterator[int]:
    """MemAvailable: what is free, and what the system would give up for it."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_cgroups() -> Iterator[int]:
    """What is left under the limit of this process's control group, and of each above it."""
    own = next((line[3:].strip("/") for line in _lines(Path("/proc/self/cgroup")) if line.startswith("0::")), "")
    for group in (CGROUPS / own, *(CGROUPS / own).parents):
        limit = "".join(_lines(group / "memory.max")).strip()
        if limit.isdigit():
            stat = dict(line.split() for line in _lines(group / "memory.stat"))
            used = int("".join(_lines(group / "memory.current")) or 0)
            yield max(0, int(limit) - used + int(stat.get("inactive_file", 0)))


def _of_process() -> Iterator[int]:
    """What is left of the address space under RLIMIT_AS."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    for line in _lines(Path("/proc/self/statm")):
        if limit != resource.RLIM_INFINITY:
            yield max(0, limit - int(line.split()[0]) * resource.getpagesize())


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
