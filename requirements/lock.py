"""Lock what CI installs: every package by its version and the hashes of its files, for one platform.

    pip install uv && python requirements/lock.py

Versions are those of constraints.txt, which is given those that it lacks; to move one, change or delete its line there.
Connected: hashes are what the index lists. Torch is apart, in two files of which one is installed: the build for CPUs,
where pip is told of an index or a folder that has it, or the index's own build with the parts of CUDA that it asks for.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("dev", "docs")
PLATFORM, PYTHON = "x86_64-manylinux_2_28", "3.11"
LOCK = ROOT / "requirements" / "linux-x86_64-cp311.txt"
CUDA = re.compile(r"(torch==|nvidia-|cuda-|triton==)")
# By version: torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl, as PyTorch's own index has it.
CPU_TORCH = {"2.13.0": "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"}
HEAD = """\
# Written by requirements/lock.py: {what}, Linux on x86_64, CPython {python}.
# pip install --no-deps --only-binary :all: --require-hashes --requirement {path}
"""


def compiled() -> list[str]:
    """A line a package, its hashes behind it, in the order of the names."""
    there = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    extras = [word for extra in EXTRAS if extra in there for word in ("--extra", extra)]
    command = ["uv", "pip", "compile", "--no-config", "pyproject.toml", *extras, "--constraint", "constraints.txt"]
    command += ["--python-platform", PLATFORM, "--python-version", PYTHON, "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--no-strip-markers", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return re.split(r"\n(?=\w)", done.stdout.strip())


def cpu_build(entries: list[str]) -> str:
    """The entry of torch's build for CPUs, of the version that is among the entries."""
    (version,) = (found[1] for entry in entries if (found := re.match(r"torch==(\S+)", entry)))
    return f"torch=={version}+cpu \\\n    --hash={CPU_TORCH[version]}"


def write(path: Path, what: str, entries: list[str]) -> None:
    head = HEAD.format(what=what, python=PYTHON, path=path.relative_to(ROOT).as_posix())
    path.write_text(head + "\n".join(entries) + "\n", encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def complete_constraints(entries: list[str]) -> None:
    """Give constraints.txt the pins that it lacks."""
    path = ROOT / "constraints.txt"
    head, *pins = path.read_text(encoding="utf-8").splitlines()
    known = {canonical(pin.partition("==")[0]) for pin in pins}
    pins += [pin for pin in (entry.partition(" ")[0] for entry in entries) if pin.partition("==")[0] not in known]
    path.write_text("\n".join([head, *sorted(pins, key=str.casefold)]) + "\n", encoding="utf-8")


def main() -> None:
    entries = compiled()
    cuda, others = ([one for one in entries if bool(CUDA.match(one)) is there] for there in (True, False))
    write(LOCK, "what CI installs, but for torch", others)
    write(LOCK.with_stem(f"{LOCK.stem}-torch-cpu"), "torch without CUDA", [cpu_build(cuda)])
    write(LOCK.with_stem(f"{LOCK.stem}-torch-cuda"), "torch of the index, with CUDA", cuda)
    complete_constraints(others)


if __name__ == "__main__":
    main()
