"""What the shell is told when a user presses Tab: names of studies and parts, configurations, folders of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

Complete = Callable[[str], list[str]]


def studies(incomplete: str) -> list[str]:
    """The studies that come with dsgd, and Python files."""
    from dsgd.study_files import study_files

    return [*_starting(study_files(), incomplete), *_paths(incomplete, (".py",))]


def tables(incomplete: str) -> list[str]:
    """The tables of `dsgd list`."""
    from dsgd.cli.catalogue import TABLES

    return _starting(TABLES, incomplete)


def names_of(table: str) -> Complete:
    """The names in a table, as what completes them."""

    def names(incomplete: str) -> list[str]:
        from dsgd.cli.catalogue import TABLES

        return _starting(TABLES[table], incomplete)

    return names


def configurations(incomplete: str) -> list[str]:
    """YAML files, and the keys of a configuration with their =."""
    from dataclasses import fields

    from dsgd.config import BESIDE_RUN
    from dsgd.run import Run

    keys = [f"{key}=" for key in (*(f.name for f in fields(Run)), *BESIDE_RUN)]
    return [*_paths(incomplete, (".yaml", ".yml")), *_starting(keys, incomplete)]


def folders(incomplete: str) -> list[str]:
    """The folders of runs, sweeps and studies in runs/, and folders on the way to others."""
    from dsgd.cli.folders import kind_of

    inside = Path("runs").iterdir() if Path("runs").is_dir() else ()
    known = sorted(str(path) for path in inside if path.is_dir() and kind_of(path))
    return list(dict.fromkeys([*_starting(known, incomplete), *_paths(incomplete, ())]))


def _paths(incomplete: str, endings: tuple[str, ...]) -> list[str]:
    """Folders, each with a / behind it, and files with these endings."""
    above, _, start = incomplete.rpartition("/")
    folder = Path(above or ("/" if incomplete.startswith("/") else "."))
    if not folder.is_dir():
        return []
    shown = [path for path in sorted(folder.iterdir()) if path.name.startswith(start) and path.name[:1] != "."]
    before = incomplete[: len(incomplete) - len(start)]
    found = (f"{before}{path.name}{'/' if path.is_dir() else ''}" for path in shown)
    return [name for name in found if name.endswith(("/", *endings))]


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
