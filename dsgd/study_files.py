"""Where studies lie and what they hold: one Python file each, run as a module of its own and never imported by name.

A study's file has a docstring (question, claim, source, expected result, minutes), `question`, `presets`, `runs` and
`report`. Those that come with dsgd are found by name, others by their path.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from dsgd import plugins, results
from dsgd.figures import Figure
from dsgd.report import Table
from dsgd.shipped import shipped_folder
from dsgd.statistics import Claim

if TYPE_CHECKING:
    from dsgd.run import Run

Histories = dict[str, list[results.Row]]

PARTS = ("question", "presets", "runs", "report")
DEFAULT_PRESET = "standard"


@dataclass(frozen=True)
class Report:
    """What a study makes of its runs' histories.

    `answer` says in a few sentences what was found, from the numbers, its paragraphs parted by blank lines;
    `definitions` say what each symbol of the claims means.
    """

    claims: Sequence[Claim]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    answer: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)


class Study(Protocol):
    """What a study's module holds; its settings are frozen dataclasses with at least `seeds` and `seed`.

    And `accepts_divergence = True` where its report can tell of runs that are no longer finite, and `runs_after` where
    further runs depend on what the first ones found (see dsgd.study).
    """

    __name__: str
    question: str
    presets: Mapping[str, Any]

    def runs(self, settings: Any) -> dict[str, Run]: ...
    def report(self, settings: Any, histories: Histories) -> Report: ...


def find_study(name_or_path: str) -> Study:
    """The study of that name, or in that file when it ends in .py. ValueError: no such study, or not one."""
    if name_or_path.endswith(".py"):
        path = Path(name_or_path)
        if not path.is_file():
            raise ValueError(f"there is no study file {name_or_path}")
        return _load(path, own=True)
    known = study_files()
    if name_or_path not in known:
        raise ValueError(f"there is no study {name_or_path!r}; allowed are {', '.join(known) or 'none'}, or a .py file")
    return _load(known[name_or_path])


def list_studies() -> dict[str, str]:
    """The names of the studies that come with dsgd, each with the first line of its docstring; none is imported."""
    return {name: _docstring(path).partition("\n")[0] for name, path in study_files().items()}


def study_costs() -> dict[str, str]:
    """What the presets of each study cost, by the `Takes` lines of its docstring, empty without; none is imported."""
    found = {
        name: re.search(r"^Takes\s+(.*(?:\n[ \t]+.*)*)", _docstring(path), re.M) for name, path in study_files().items()
    }
    return {name: "" if takes is None else " ".join(takes[1].split()) for name, takes in found.items()}


def settings_of(study: Study, preset: str | None = None, seed: int | None = None) -> tuple[str, Any]:
    """The preset's name and settings, its first seed replaced by `seed`. None: `standard`, or the first preset.

    ValueError where the study has no such preset, or its settings are not ones.
    """
    if not study.presets:
        raise ValueError(f"study {study_name(study)} has no presets; give at least one")
    name = preset or (DEFAULT_PRESET if DEFAULT_PRESET in study.presets else next(iter(study.presets)))
    if name not in study.presets:
        raise ValueError(f"study {study_name(study)} has no preset {name!r}; allowed are {', '.join(study.presets)}")
    settings = study.presets[name]
    if not (is_dataclass(type(settings)) and hasattr(settings, "seeds") and hasattr(settings, "seed")):
        raise ValueError(
            f"preset {name} of study {study_name(study)} must be a dataclass with the fields seeds and seed"
        )
    return name, settings if seed is None else replace(settings, seed=seed)


def study_folder(study: Study, preset: str | None = None, seed: int | None = None, words: Sequence[str] = ()) -> Path:
    """The default folder: `runs/study-NAME-PRESET`.

    Another seed than the preset's, and changes of its settings in `words`, have a folder of their own.
    """
    name, settings = settings_of(study, preset)
    other = "" if seed in (None, settings.seed) else f"-seed-{seed}"
    changed = f"-changed-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}" if words else ""
    return Path("runs") / results.valid_name(f"study-{study_name(study)}-{name}{other}{changed}")


def study_files() -> dict[str, Path]:
    """The files of the studies that come with dsgd, by name."""
    return {
        path.stem: path for path in sorted(shipped_folder("experiments").glob("*.py")) if not path.stem.startswith("_")
    }


def _load(path: Path, own: bool = False) -> Study:
    """Runs a study's file as the module `dsgd_experiments.NAME`; one of the user's own may have parts of its own."""
    name = f"dsgd_experiments.{results.valid_name(path.stem)}"
    module = plugins.run(plugins.Plugin.read(name, path), carry=own)
    if lacking := [part for part in PARTS if not hasattr(module, part)]:
        raise ValueError(f"{path} is not a study: it lacks {', '.join(lacking)}")
    return cast("Study", module)


def study_name(study: Study) -> str:
    """The last part of its module's name."""
    return study.__name__.rpartition(".")[2]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
