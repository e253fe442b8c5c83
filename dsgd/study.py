"""A study: a question, the runs that can answer it, and what their histories say; run what is missing, then report.

A study is one Python file with a docstring (question, claim, source, expected result, minutes), `question`, `presets`,
`runs` and `report`. Its runs are kept in its folder by their key, so a finished run is never repeated.
"""

from __future__ import annotations

import ast
import importlib.util
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from dsgd import results
from dsgd.figures import Figure
from dsgd.report import Table, render_html, render_markdown
from dsgd.statistics import Claim, Judged, judge

if TYPE_CHECKING:
    from dsgd.loop import Observer, Result
    from dsgd.run import Run

__all__ = ["Claim", "Figure", "Judged", "Report", "Study", "StudyError", "Table", "conduct", "find_study", "judge"]
__all__ += ["list_studies", "settings_of"]

Histories = dict[str, list[results.Row]]
Progress = Callable[[int, int, str, float | None], None]
Train = Callable[..., "Result"]

PARTS = ("question", "presets", "runs", "report")
DEFAULT_PRESET = "standard"
MARK = "study.json"


@dataclass(frozen=True)
class Report:
    """What a study makes of its runs' histories."""

    claims: Sequence[Claim]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


class Study(Protocol):
    """What a study's module holds; its settings are frozen dataclasses with at least `seeds` and `seed`."""

    __name__: str
    question: str
    presets: Mapping[str, Any]

    def runs(self, settings: Any) -> dict[str, Run]: ...
    def report(self, settings: Any, histories: Histories) -> Report: ...


class StudyError(RuntimeError):
    """Some runs of a study failed; the message names the first and its error."""


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
    return {name: _first_line(path) for name, path in _files().items()}


def settings_of(study: Study, preset: str | None = None, seed: int | None = None) -> tuple[str, Any]:
    """The preset's name and settings, its first seed replaced by `seed`. None: `standard`, or the first preset."""
    name = preset or (DEFAULT_PRESET if DEFAULT_PRESET in study.presets else next(iter(study.presets)))
    if name not in study.presets:
        raise ValueError(f"study {_name(study)} has no preset {name!r}; allowed are {', '.join(study.presets)}")
    settings = study.presets[name]
    return name, settings if seed is None else replace(settings, seed=seed)


def conduct(
    study: Study | str,
    preset: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    observers: Sequence[Observer] = (),
    progress: Progress = lambda done, total, label, seconds_left: None,
    train: Train | None = None,
    key: Callable[[Run], str] | None = None,
) -> dict[str, Any]:
    """Run what is missing, judge the claims, write report.html, report.md and summary.json; returns the summary.

    When a verdict is inconclusive the seeds are doubled, once. `progress` is told before each run, and at the end, how
    many are done, of how many, which comes next, and the seconds left (None: not known yet); `observers` follow each
    run. ValueError or FileExistsError: refused before anything is written. StudyError: some runs failed; the others
    are done and kept, and a next call tries the failed ones again.
    """
    began = time.perf_counter()
    study = find_study(study) if isinstance(study, str) else study
    preset, settings = settings_of(study, preset, seed)
    folder = Path(out) if out is not None else Path("runs") / results.valid_name(f"study-{_name(study)}-{preset}")
    _refuse_foreign(folder, study)
    bench = Bench(folder, device, tuple(observers), progress, train or _train, key or _key)
    summary = _answer(study, preset, settings, bench, began)
    if any(claim["verdict"] == "inconclusive" for claim in summary["claims"]):
        summary = _answer(study, preset, replace(settings, seeds=2 * settings.seeds), bench, began)
    return summary


@dataclass(frozen=True)
class Bench:
    """Where a study's runs are kept, and how one is trained."""

    folder: Path
    device: str
    observers: tuple[Observer, ...]
    progress: Progress
    train: Train
    key: Callable[[Run], str]

    def folders(self, runs: Mapping[str, Run]) -> dict[str, Path]:
        """The folder of each run, by label; equal runs share one. FileNotFoundError where a run's data is missing."""
        return {label: self.folder / "runs" / self.key(run)[:20] for label, run in runs.items()}

    def train_missing(self, runs: Mapping[str, Run], folders: Mapping[str, Path]) -> None:
        """Train the runs that are not finished, one after the other. StudyError, after all, when some failed."""
        distinct = {folder: label for label, folder in folders.items()}
        missing = {label: folder for folder, label in distinct.items() if not _finished(folder)}
        finished, failures = len(distinct) - len(missing), []
        left = Remaining({label: runs[label].steps for label in missing})
        for done, (label, folder) in enumerate(missing.items()):
            self.progress(finished + done, len(distinct), label, left.seconds())
            if (error := self._train_one(label, runs[label], folder)) is not None:
                failures.append((label, error))
            left.took(label)
        self.progress(len(distinct), len(distinct), "", 0.0)
        if failures:
            label, error = failures[0]
            many = f"{len(failures)} of {len(distinct)} runs failed, first " if len(failures) > 1 else "run "
            raise StudyError(f"{many}{label!r}: {results.describe_error(error)}") from error

    def _train_one(self, label: str, run: Run, folder: Path) -> Exception | None:
        """The error with which the run failed, if it did. What an interrupted or failed call left is replaced."""
        if folder.exists():
            shutil.rmtree(folder)
        kept = results.RunFolder.create(folder, run.describe(), device=self.device)
        began = time.perf_counter()
        try:
            result = self.train(run, device=self.device, observers=(kept, *self.observers))
        except Exception as error:
            kept.fail(error, label=label, seconds=time.perf_counter() - began)
            return error
        kept.finish(result.params, label=label, steps=run.steps, seconds=time.perf_counter() - began)
        return None


class Remaining:
    """The seconds that the runs to come will take, at the pace a step has taken so far."""

    def __init__(self, steps: Mapping[str, int]) -> None:
        self.steps, self.taken, self.began = dict(steps), 0, time.perf_counter()

    def took(self, label: str) -> None:
        self.taken += self.steps.pop(label)

    def seconds(self) -> float | None:
        """None until a first run is done."""
        pace = (time.perf_counter() - self.began) / self.taken if self.taken else None
        return None if pace is None else pace * sum(self.steps.values())


def _answer(study: Study, preset: str, settings: Any, bench: Bench, began: float) -> dict[str, Any]:
    """One round: the missing runs, the report on all of them, its three files; returns the summary."""
    runs = study.runs(settings)
    folders = bench.folders(runs)
    _mark(bench.folder, study)
    bench.train_missing(runs, folders)
    report = study.report(settings, {label: results.read_history(folder) for label, folder in folders.items()})
    summary: dict[str, Any] = results.jsonable(
        {
            "study": _name(study),
            "preset": preset,
            "claims": [one.row() for one in judge(report.claims)],
            "command": _command(study, preset, settings),
            "seed": settings.seed,
            "versions": results.versions(),
            "git": results.git_commit(),
            "question": study.question,
            "seeds": settings.seeds,
            **_cost(set(folders.values())),
            "seconds": time.perf_counter() - began,
        }
    )
    shown = (summary, report.tables, report.figures, report.notes)
    results.write_atomically(bench.folder / "report.html", render_html(*shown))
    results.write_atomically(bench.folder / "report.md", render_markdown(*shown))
    results.write_atomically(bench.folder / "summary.json", results.to_json(summary, indent=2) + "\n")
    return summary


def _cost(folders: set[Path]) -> dict[str, Any]:
    """How many runs, the seconds that training them took, and the machine of one of them."""
    seconds = sum(float(results.read_summary(folder)["seconds"]) for folder in folders)
    trained_on = results.read_environment(min(folders)) if folders else {**results.machine(), "device": "none"}
    machine = {name: trained_on[name] for name in ("python", "platform", "cpus", "device")}
    return {"runs": len(folders), "run_seconds": seconds, "machine": machine}


def _command(study: Study, preset: str, settings: Any) -> str:
    """The line that repeats the study; a study from elsewhere is named by its file alone, never by a path."""
    path = Path(getattr(study, "__file__", None) or _name(study))
    own = path.suffix != ".py" or _files().get(path.stem) == path
    words = ["dsgd", "study", path.stem if own else path.name, "--preset", preset, "--seed", str(settings.seed)]
    return shlex.join(words)


def _finished(folder: Path) -> bool:
    try:
        results.read_history(folder)
        return bool(results.read_summary(folder)["status"] == "ok")
    except (OSError, ValueError, KeyError):
        return False


def _refuse_foreign(folder: Path, study: Study) -> None:
    """FileExistsError unless `folder` is absent, empty, or this study's own from an earlier call."""
    mark = folder / MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == _marking(study):
        return
    results.refuse_occupied(folder)


def _mark(folder: Path, study: Study) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.write_atomically(folder / MARK, _marking(study))


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
    spec.loader.exec_module(module)
    if lacking := [part for part in PARTS if not hasattr(module, part)]:
        raise ValueError(f"{path} is not a study: it lacks {', '.join(lacking)}")
    return cast("Study", module)


def _name(study: Study) -> str:
    return study.__name__.rpartition(".")[2]


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _train(run: Run, **how: Any) -> Result:
    from dsgd.backends import train

    return train(run, **how)


def _key(run: Run) -> str:
    from dsgd.fingerprint import key

    return key(run)
