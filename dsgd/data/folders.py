"""Where the user's own copies of data files are looked for: $DSGD_DATA, then data/ in the working folder."""

from __future__ import annotations

import os
from pathlib import Path


def data_folders(subfolder: str, *more: str) -> tuple[Path, ...]:
    """The absolute folders to look in, in order: each root and its `subfolder`, then `more`."""
    own = os.environ.get("DSGD_DATA")
    roots = [Path(own).expanduser()] if own else []
    candidates = [folder for root in (*roots, Path("data")) for folder in (root, root / subfolder)]
    return tuple(folder.absolute() for folder in (*candidates, *map(Path, more)))


def data_file(names: tuple[str, ...], folders: tuple[Path, ...], remedy: str) -> Path:
    """The first file with one of `names` in `folders`; FileNotFoundError that says where it looked and the `remedy`."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    looked = ", ".join(map(str, folders))
    raise FileNotFoundError(f"The data file {' or '.join(names)} is in none of the folders {looked}: {remedy}.")
