"""A study: a question, the runs that can answer it, and what their histories say; run what is missing, then report.

A study is one Python file with a docstring (question, claim, source, expected result, minutes), `question`, `presets`,
`runs` and `report`. Its runs are kept in its folder by their key, so a finished run is never repeated.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from dsgd import results
from dsgd.atomic import write_atomically
from dsgd.figures import Figure
from dsgd.kept_runs import KeptRuns, Progress, StudyError, Train
from dsgd.report import Table, render_html, render_markdown
from dsgd.statistics import Claim, Judged, judge

if TYPE_CHECKING:
    from dsgd.loop import Observer, Result
    from dsgd.run import Run

__all__ = ["Claim", "Figure", "Judged", "Report", "Study", "StudyError", "Table", "conduct", "find_study", "judge"]
__all__ += ["list_studies", "settings_of", "study_costs", "study_folder"]

Histories = dict[str, list[results.Row]]

PARTS = ("question", "presets", "runs", "report")
DEFAULT_PRESET = "standard"
MARK = "study.json"
FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^/,\]}\"']*/)*")  # of an absolute path, up to its last name


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
    """What a study's module holds; its settings are frozen dataclasses with at least `seeds` and `seed`."""

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
        return _load(path)
    known = _files()
    if name_or_path not in known:
        raise ValueError(f"there is no study {name_or_path!r}; allowed are {', '.join(known) or 'none'}, or a .py file")
    return _load(known[name_or_path])


def list_studies() -> dict[str, str]:
    """The names of the studies that come with dsgd, each with the first line of its docstring; none is imported."""
    return {name: _docstring(path).partition("\n")[0] for name, path in _files().items()}


def study_costs() -> dict[str, str]:
    """What the presets of each study cost, by the `Takes` lines of its docstring, empty without; none is imported."""
    found = {
        name: re.search(r"^Takes\s+(.*(?:\n[ \t]+.*)*)", _docstring(path), re.M) for name, path in _files().items()
    }
    return {name: "" if takes is None else " ".join(takes[1].split()) for name, takes in found.items()}


def settings_of(study: Study, preset: str | None = None, seed: int | None = None) -> tuple[str, Any]:
    """The preset's name and settings, its first seed replaced by `seed`. None: `standard`, or the first preset.

    ValueError where the study has no such preset, or its settings are not ones.
    """
    if not study.presets:
        raise ValueError(f"study {_name(study)} has no presets; give at least one")
    name = preset or (DEFAULT_PRESET if DEFAULT_PRESET in study.presets else next(iter(study.presets)))
    if name not in study.presets:
        raise ValueError(f"study {_name(study)} has no preset {name!r}; allowed are {', '.join(study.presets)}")
    settings = study.presets[name]
    if not (is_dataclass(type(settings)) and hasattr(settings, "seeds") and hasattr(settings, "seed")):
        raise ValueError(f"preset {name} of study {_name(study)} must be a dataclass with the fields seeds and seed")
    return name, settings if seed is None else replace(settings, seed=seed)


def study_folder(study: Study, preset: str | None = None, seed: int | None = None) -> Path:
    """The default folder: `runs/study-NAME-PRESET`, with `-seed-SEED` behind for another seed than the preset's."""
    name, settings = settings_of(study, preset)
    other = "" if seed in (None, settings.seed) else f"-seed-{seed}"
    return Path("runs") / results.valid_name(f"study-{_name(study)}-{name}{other}")


def conduct(
    study: Study | str,
    preset: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    observers: Sequence[Observer] = (),
    progress: Progress = lambda done, total, label, seconds_left: None,
    workers: int = 1,
    changes: Mapping[str, Any] | None = None,
    words: Sequence[str] = (),
    train: Train | None = None,
    key: Callable[[Run], str] | None = None,
) -> dict[str, Any]:
    """Run what is missing, judge the claims, write report.html, report.md and summary.json; returns the summary.

    When a verdict is inconclusive the seeds are doubled, once. `progress` is told at the start and after each run how
    many are done, of how many, which was the last, and the seconds left (None: not known yet). `workers` processes
    train side by side; with one, `observers` follow each run. `changes` replace fields of the preset's settings, and
    `words` say them as the command line does. ValueError or FileExistsError: refused before anything
    is written. StudyError: some runs failed; the others are done and kept, and a next call tries the failed ones again.
    """
    began = time.perf_counter()
    study = find_study(study) if isinstance(study, str) else study
    preset, settings = settings_of(study, preset, seed)
    settings = replace(settings, **(changes or {}))
    if settings.seeds < 1:
        raise ValueError(f"seeds: {settings.seeds}; it must be at least 1")
    folder = Path(out) if out is not None else study_folder(study, preset, seed)
    _refuse_foreign(folder, study)
    kept = KeptRuns(folder, device, tuple(observers), progress, train or _train, key or _key, workers)
    summary = _answer(study, preset, settings, kept, began, words)
    if any(claim["verdict"] == "inconclusive" for claim in summary["claims"]):
        doubled = replace(settings, seeds=2 * settings.seeds)
        summary = _answer(study, preset, doubled, kept, began, words, summary["trained"])
    return summary


def _answer(
    study: Study,
    preset: str,
    settings: Any,
    kept: KeptRuns,
    began: float,
    words: Sequence[str],
    trained: int = 0,
) -> dict[str, Any]:
    """One round: the missing runs, the report on all of them, its three files; returns the summary.

    `trained` runs were trained in the round before.
    """
    runs = study.runs(settings)
    folders = kept.folders(runs)
    _mark(kept.folder, study)
    trained += kept.train_missing(runs, folders)
    report = _reported(study, settings, {label: results.read_history(folder) for label, folder in folders.items()})
    summary: dict[str, Any] = results.jsonable(
        {
            "study": _name(study),
            "preset": preset,
            "claims": [one.row() for one in judge(report.claims)],
            "command": _command(study, preset, settings, words),
            "seed": settings.seed,
            "versions": results.versions(),
            "git": results.git_commit(),
            "question": study.question,
            "answer": report.answer,
            "seeds": settings.seeds,
            **_cost(set(folders.values())),
            "trained": trained,
            "seconds": time.perf_counter() - began,
        }
    )
    shown = (summary, report.tables, report.figures, report.notes, report.definitions)
    write_atomically(kept.folder / "report.html", render_html(*shown))
    write_atomically(kept.folder / "report.md", render_markdown(*shown))
    write_atomically(kept.folder / "summary.json", results.to_json(summary, indent=2) + "\n")
    return summary


def _reported(study: Study, settings: Any, histories: Histories) -> Report:
    """The study's report; StudyError where it cannot be made of the histories, which is no mistake of the user's."""
    try:
        return study.report(settings, histories)
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"the report of {_name(study)} cannot be made: {results.describe_error(error)}") from error


def _cost(folders: set[Path]) -> dict[str, Any]:
    """How many runs, the seconds that training them took, and the machine of one of them."""
    seconds = sum(float(results.read_summary(folder)["seconds"]) for folder in folders)
    trained_on = results.read_environment(min(folders)) if folders else {**results.machine(), "device": "none"}
    machine = {name: trained_on[name] for name in ("python", "platform", "cpus", "device")}
    return {"runs": len(folders), "run_seconds": seconds, "machine": machine}


def _command(study: Study, preset: str, settings: Any, changes: Sequence[str]) -> str:
    """The line that repeats the study; files, a study's own too, are named by their last name, never by a path."""
    path = Path(getattr(study, "__file__", None) or _name(study))
    own = path.suffix != ".py" or _files().get(path.stem) == path
    words = ["dsgd", "study", path.stem if own else path.name, "--preset", preset, "--seed", str(settings.seed)]
    return shlex.join([*words, *(FOLDERS.sub("", change) for change in changes)])


def _refuse_foreign(folder: Path, study: Study) -> None:
    """FileExistsError unless `folder` is absent, empty, or this study's own from an earlier call."""
    mark = folder / MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == _marking(study):
        return
    results.refuse_occupied(folder)


def _mark(folder: Path, study: Study) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / MARK, _marking(study))


def _marking(study: Study) -> str:
    return results.to_json({"study": _name(study)}) + "\n"


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_home().glob("*.py")) if not path.stem.startswith("_")}


def _home() -> Path:
    """The folder of dsgd's own studies: within the wheel, else the checkout's; never one that lies around elsewhere."""
    shipped, root = Path(__file__).resolve().parent / "_experiments", results.checkout()
    return root / "experiments" if root and not shipped.is_dir() else shipped


def _load(path: Path) -> Study:
    """Run a study's file as the module `dsgd_experiments.NAME`, registered because dataclasses look themselves up."""
    name = f"dsgd_experiments.{results.valid_name(path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be read as a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be loaded: {results.describe_error(error)}") from error
    if lacking := [part for part in PARTS if not hasattr(module, part)]:
        raise ValueError(f"{path} is not a study: it lacks {', '.join(lacking)}")
    return cast("Study", module)


def _name(study: Study) -> str:
    return study.__name__.rpartition(".")[2]


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _train(run: Run, **how: Any) -> Result:
    from dsgd.backends import train

    return train(run, **how)


def _key(run: Run) -> str:
    from dsgd.fingerprint import key

    return key(run)
