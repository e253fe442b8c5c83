"""Conducting a study: run what is missing, judge what its histories say, report.

The runs are kept in the study's folder by their key, so a finished run is never repeated.

A run that is no longer finite fails, and with it the study. A study that scores such runs says so in its module by
`accepts_divergence = True`: then one is finished like any other, its history the rows measured until then and a last
one {"step": ..., "diverged": 1.0}, after as many steps as it took; `report` looks for "diverged" in `rows[-1]`, which
has no metrics then, and the runs trained in one pack with it go on. The summary counts them in `diverged`.

A study whose later runs depend on earlier ones, as where hyper-parameters are tuned, has `runs_after(settings,
histories)`: the further runs by labels of their own, asked for once those of `runs` are done; `report` gets all.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd import plugins, results
from dsgd.atomic import remove_stale, write_atomically
from dsgd.figures import FOLDER, Figure, file_names, standalone
from dsgd.kept_runs import KeptRuns, Progress, StudyError
from dsgd.locks import locked
from dsgd.report import Table, render_html, render_markdown
from dsgd.statistics import Claim, Judged, judge
from dsgd.study_files import (
    Report,
    Study,
    find_study,
    list_studies,
    settings_of,
    study_costs,
    study_files,
    study_folder,
    study_name,
)

if TYPE_CHECKING:
    from dsgd.backends import Backend
    from dsgd.loop import Observer
    from dsgd.run import Run

__all__ = ["Claim", "Figure", "Judged", "Report", "Study", "StudyError", "Table", "conduct", "find_study", "judge"]
__all__ += ["list_studies", "settings_of", "study_costs", "study_folder"]

MARK = "study.json"
FOLDERS = re.compile(r"(?<![\w.:/~-])~?/(?:[^/,\]}\"']*/)*")  # of an absolute path, up to its last name


def conduct(
    study: Study | str,
    preset: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    *,
    backend: Backend | None = None,
    observers: Sequence[Observer] = (),
    progress: Progress = lambda done, total, label, seconds_left: None,
    workers: int = 1,
    changes: Mapping[str, Any] | None = None,
    words: Sequence[str] = (),
    tell: Callable[[str], None] = lambda sentence: None,
    key: Callable[[Run], str] | None = None,
) -> dict[str, Any]:
    """Run what is missing, judge the claims, write what was found; returns the summary.

    Written are report.html, report.md with the drawings in figures/ that it shows, and summary.json, the summary.
    `backend` computes the runs, by default this machine. When a verdict is inconclusive the seeds are doubled, once.
    `progress` is told at the start and after each run how many are done, of how many, which was the last, and the
    seconds left (None: not known yet). `workers` processes train side by side; with one, `observers` follow each run.
    `changes` replace fields of the preset's settings, and `words` say them as the command line does. `tell` is told of
    a second look.

    ValueError or FileExistsError: refused before anything is written, as where another process conducts the study.
    StudyError: some runs failed (the others are done and kept, and a next call tries the failed ones again), or the
    report cannot be made.
    """
    from dsgd.backends.local import LocalBackend

    began = time.perf_counter()
    study = find_study(study) if isinstance(study, str) else study
    preset, settings = settings_of(study, preset, seed)
    settings = replace(settings, **(changes or {}))
    if settings.seeds < 1:
        raise ValueError(f"seeds: {settings.seeds}; it must be at least 1")
    folder = Path(out) if out is not None else study_folder(study, preset, seed, words)
    _refuse_foreign(folder, study)
    accepts = getattr(study, "accepts_divergence", False)
    kept = KeptRuns(folder, backend or LocalBackend(), tuple(observers), progress, key or _key, workers, accepts)
    with locked(folder):
        return _in_two_looks(Asked(study, preset, settings, tuple(words), began), kept, tell)


def _in_two_looks(asked: Asked, kept: KeptRuns, tell: Callable[[str], None]) -> dict[str, Any]:
    """The summary of one round, or of a second one with twice the seeds where a verdict stays open."""
    summary = _answer(asked, kept)
    if open_claims := [claim["name"] for claim in summary["claims"] if claim["verdict"] == "inconclusive"]:
        tell(f"inconclusive: {', '.join(open_claims)}; the seeds are doubled, once")
        doubled = replace(asked.settings, seeds=2 * asked.settings.seeds)
        summary = _answer(replace(asked, settings=doubled, trained=summary["trained"], look=2), kept)
    return summary


@dataclass(frozen=True)
class Asked:
    """What is answered in one round; `words` are the changes as the command line says them, `began` a clock's time.

    `trained` runs were trained in the round before.
    """

    study: Study
    preset: str
    settings: Any
    words: tuple[str, ...]
    began: float
    trained: int = 0
    look: int = 1


def _answer(asked: Asked, kept: KeptRuns) -> dict[str, Any]:
    """One round: the missing runs, the report on all of them, its files; returns the summary."""
    folders, trained = _trained(asked.study, asked.study.runs(asked.settings), kept)
    if after := getattr(asked.study, "runs_after", None):
        with _making(asked.study, "further runs"):
            further = after(asked.settings, _histories(folders))
            if same := further.keys() & folders.keys():
                raise ValueError(f"{min(same)} is the label of two runs; give each its own")
        more, trained_then = _trained(asked.study, further, kept)
        folders, trained = folders | more, trained + trained_then
    with _making(asked.study, "report"):
        histories = _histories(folders)
        report = asked.study.report(asked.settings, histories)
        summary = _summary(asked, report, set(folders.values()), asked.trained + trained)
        _write(kept.folder, summary, report)
    return summary


def _trained(study: Study, runs: Mapping[str, Run], kept: KeptRuns) -> tuple[dict[str, Path], int]:
    """The folders of the runs, all of them finished, and how many had to be trained."""
    folders = kept.folders(runs)
    _mark(kept.folder, study)
    return folders, kept.train_missing(runs, folders)


def _histories(folders: Mapping[str, Path]) -> dict[str, list[results.Row]]:
    return {label: results.read_history(folder) for label, folder in folders.items()}


def _summary(asked: Asked, report: Report, folders: set[Path], trained: int) -> dict[str, Any]:
    summary: dict[str, Any] = results.jsonable(
        {
            "study": study_name(asked.study),
            "preset": asked.preset,
            "claims": [one.row() for one in judge(report.claims)],
            "command": _command(asked),
            "seed": asked.settings.seed,
            "versions": results.versions(),
            "git": results.git_commit(),
            "question": asked.study.question,
            "answer": report.answer,
            "seeds": asked.settings.seeds,
            "looks": asked.look,
            **_cost(folders),
            "trained": trained,
            "seconds": time.perf_counter() - asked.began,
        }
    )
    return summary


def _write(folder: Path, summary: dict[str, Any], report: Report) -> None:
    """The report's files, each whole or as it was; the figures first, for report.md shows them."""
    shown = (summary, report.tables, report.figures, report.notes, report.definitions)
    drawings = dict(zip(file_names(report.figures), map(standalone, report.figures), strict=True))
    texts = {"report.html": render_html(*shown), "report.md": render_markdown(*shown)}
    texts["summary.json"] = results.to_json(summary, indent=2) + "\n"
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, text in ({f"{FOLDER}/{name}": text for name, text in drawings.items()} | texts).items():
        write_atomically(folder / name, text)
    _remove_others(folder / FOLDER, drawings)


def _remove_others(figures: Path, kept: Collection[str]) -> None:
    """Removes the drawings of an earlier look, and the folder if nothing is left in it."""
    remove_stale(figures)
    for path in figures.glob("*.svg"):
        if path.name not in kept:
            path.unlink()
    if not any(figures.iterdir()):
        figures.rmdir()


@contextmanager
def _making(study: Study, what: str) -> Iterator[None]:
    """StudyError where something cannot be made of the histories, which is no mistake of the user's."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StudyError(
            f"the {what} of {study_name(study)} cannot be made: {results.describe_error(error)}"
        ) from error


def _cost(folders: set[Path]) -> dict[str, Any]:
    """How many runs, those that diverged, the seconds that training them took, and the machine of one of them."""
    ended = [results.read_summary(folder) for folder in folders]
    seconds = sum(float(summary["seconds"]) for summary in ended)
    diverged = sum("diverged_after" in summary for summary in ended)
    trained_on = results.read_environment(min(folders)) if folders else {**results.machine(), "device": "none"}
    machine = {name: trained_on[name] for name in ("python", "platform", "cpus", "device")}
    return {"runs": len(folders), "diverged": diverged, "run_seconds": seconds, "machine": machine}


def _command(asked: Asked) -> str:
    """The line that repeats the study; files, a study's own too, are named by their last name, never by a path."""
    path = Path(getattr(asked.study, "__file__", None) or study_name(asked.study))
    own = path.suffix != ".py" or study_files().get(path.stem) == path
    named = path.stem if own else path.name
    words = ["dsgd", "study", named, "--preset", asked.preset, "--seed", str(asked.settings.seed)]
    return shlex.join([*words, *(FOLDERS.sub("", word) for word in (*asked.words, *plugins.named()))])


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
    return results.to_json({"study": study_name(study)}) + "\n"


def _key(run: Run) -> str:
    from dsgd.fingerprint import key

    return key(run)
