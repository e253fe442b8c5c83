"""Fetch Fashion-MNIST without root: `python -m dsgd.data.fetch [FOLDER]` unpacks Debian's package of it.

The four files go to FOLDER, by default data/fashion-mnist, after their hashes were checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dsgd.data.fashion_mnist import FILES, INSTALLED, verified_bytes

PACKAGE = "dataset-fashion-mnist"
BY_HAND = f"copy the four files of {PACKAGE} ({', '.join(f'{name}.gz' for name in FILES)}) into the folder by hand"


def fetched(target: Path) -> tuple[Path, ...]:
    """The four files of Fashion-MNIST in `target`, which is made; RuntimeError or ValueError says why not."""
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = _unpacked(Path(scratch)) / INSTALLED.lstrip("/")
        sources = [unpacked / f"{name}.gz" for name in FILES]
        for source in sources:
            verified_bytes(source)
        target.mkdir(parents=True, exist_ok=True)
        return tuple(Path(shutil.copyfile(source, target / source.name)) for source in sources)


def _unpacked(scratch: Path) -> Path:
    """The folder the package was unpacked to, inside `scratch`."""
    _done(["apt-get", "download", PACKAGE], scratch)
    archives = [path.name for path in scratch.glob("*.deb")]
    _done(["dpkg-deb", "-x", *archives, "unpacked"], scratch)
    return scratch / "unpacked"


def _done(command: list[str], folder: Path) -> None:
    """Run `command` in `folder`; RuntimeError with one sentence if it is missing or fails."""
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not on this machine (it is Debian's and Ubuntu's): {BY_HAND}.") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(command)} failed ({said}): run `apt-get update` first, or {BY_HAND}.") from error


def main(arguments: list[str]) -> int:
    """The exit status: 0 if the files are in the folder named, 1 with a sentence on stderr if not."""
    target = Path(arguments[0] if arguments else "data/fashion-mnist")
    try:
        files = fetched(target)
    except (RuntimeError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Fetched Debian's {PACKAGE} and checked its SHA-256; {len(files)} files are in {target.absolute()}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
