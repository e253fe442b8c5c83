"""Install dsgd for work on it, into the environment of the Python that runs this; nothing but Python is needed.

    .venv/bin/python requirements/install.py

By the lock of this platform, where there is one: exact versions, files by their hashes, nothing built but dsgd. Else by
the versions of constraints.txt.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def lock() -> Path | None:
    """The file that locks this platform and this Python."""
    if platform.python_implementation() != "CPython" or (sys.platform == "linux" and platform.libc_ver()[0] != "glibc"):
        return None
    path = (
        ROOT / "requirements" / f"{sys.platform}-{platform.machine()}-cp{sys.version_info[0]}{sys.version_info[1]}.txt"
    )
    return path if path.is_file() else None


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words], cwd=ROOT, check=True)


def locked(path: Path) -> list[str]:
    return ["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(path)]


def install_torch(path: Path) -> None:
    """The build for CPUs; where pip does not install it, which is said, the index's."""
    cpu, cuda = (path.with_stem(f"{path.stem}-torch-{build}") for build in ("cpu", "cuda"))
    command = [sys.executable, "-m", "pip", *locked(cpu)]
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if found.returncode:
        said = found.stderr.strip().splitlines() or ["pip said nothing"]
        last = [line for line in said if line.startswith("ERROR:")][-1:] or said[-1:]
        print(f"torch for CPUs was not installed, its build with CUDA is: {last[0]}", file=sys.stderr)
        pip(*locked(cuda))


def main() -> None:
    path = lock()
    if path is None:
        pip("install", "--quiet", "--constraint", "constraints.txt", "--editable", ".[dev,docs]")
        return
    pip(*locked(path))
    install_torch(path)
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    pip("check")


if __name__ == "__main__":
    main()
