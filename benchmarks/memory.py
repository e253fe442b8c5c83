"""How much memory a run of one workload needs beside its data, in ensembles of (n, d) numbers.

Measured in several processes of its own, on Linux: the kernel's record of the most that was resident, set back when
examples and libraries are loaded, less what was resident then. They differ by where the C library finds room.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

PROCESSES, STEPS = 5, 6
PROGRAM = """
import sys
from dsgd.shipped import shipped_package
shipped_package("benchmarks")
from dsgd_benchmarks.memory import report
report(sys.argv[1])
"""


def peak(workload: Any) -> dict[str, float]:
    """Bytes of one ensemble, and the peak over them: the median of fresh processes, and the worst."""
    found = [_fresh(workload) for _ in range(PROCESSES)]
    peaks = [each["peak_bytes"] / each["ensemble_bytes"] for each in found]
    return {
        "ensemble_bytes": found[0]["ensemble_bytes"],
        "peak_over_ensemble": median(peaks),
        "worst_peak_over_ensemble": max(peaks),
    }


def _fresh(workload: Any) -> dict[str, int]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(workload))]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(answer.stdout)
    return found


def report(workload: str) -> None:
    """Runs the workload and prints the bytes of one ensemble and of the peak."""
    from dsgd.backends.local import keep_freed_memory
    from dsgd.matrices import forget_freed
    from dsgd.threads import torch_threads

    from .speed import advancing, simulation_of
    from .workloads import Workload

    keep_freed_memory()
    asked = Workload(**json.loads(workload))
    with torch_threads(asked.threads):
        advancing(simulation_of(asked))()  # whatever is loaded or compiled at first use
        simulation = simulation_of(asked)
        ensemble = asked.n * simulation.network.layout.d * 4
        forget_freed()
        ctypes.CDLL(None).malloc_trim(0)
        before = _forget_peak()
        step = advancing(simulation)
        for _ in range(STEPS):
            step()
    print(json.dumps({"ensemble_bytes": ensemble, "peak_bytes": _resident("VmHWM") - before}))


def _forget_peak() -> int:
    """Sets the record back to what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmRSS")


def _resident(name: str) -> int:
    """A line of the process's status, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[name].split()[0])
