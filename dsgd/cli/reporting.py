"""`dsgd report`: the page of a run's folder, and its figures and tables as files; where a study's page is."""

from __future__ import annotations

import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dsgd.cli.browser import chromium, print_pdf
from dsgd.cli.printed import say
from dsgd.config import ConfigError, read
from dsgd.config.problems import REFUSALS, one_line, refuse
from dsgd.config.spelling import words
from dsgd.plugins import named
from dsgd.records import Record, is_running, read_record
from dsgd.results import refuse_occupied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from dsgd.figures import Figure
    from dsgd.pages import Table
    from dsgd.run_report import RunReport

PAGE, STUDY, SWEEP = "report.html", "study.json", "sweep.json"
SECONDS_BETWEEN_PAGES = 5


@dataclass(frozen=True)
class Outputs:
    """The files that a report is asked for: its page, tables as CSV, figures as SVG, the page as PDF."""

    page: Path | None
    csv: Path | None = None
    svg: Path | None = None
    pdf: Path | None = None

    def check(self) -> None:
        """ConfigError naming the option that cannot be, before anything is written."""
        for option, folder in (("--csv", self.csv), ("--svg", self.svg)):
            if folder is not None:
                check_new_folder(folder, option)
        if self.csv is not None and self.csv == self.svg:
            refuse("--svg", f"{self.svg} is also the folder of --csv; give another")
        for option, file, ending in (("--out", self.page, ".html"), ("--pdf", self.pdf, ".pdf")):
            if file is not None:
                check_new_file(file, option, ending)
        if self.pdf is not None:
            chromium()


def reported(folder: Path, outputs: Outputs, watch: bool) -> dict[str, Any]:
    """Writes a run's page and what else is asked for; returns what was written. ConfigError for what cannot be.

    With `watch` the page is written again while the run goes on. Of a study only says where its page is.
    """
    if (folder / STUDY).is_file():
        return _of_study(folder, outputs)
    outputs.check()
    page = outputs.page or folder / PAGE
    found = _watched(folder, page) if watch else record_of(folder)
    report = made(found)
    _write(report, page)
    written: dict[str, Any] = {"run_dir": str(folder), "status": found.status, "report": str(page)}
    return written | export(report.figures, report.tables, outputs, page)


def export(figures: Sequence[Figure], tables: Sequence[Table], outputs: Outputs, page: Path | None) -> dict[str, str]:
    """Writes what is asked for beside the page, which is there; returns the folders and the file by option."""
    from dsgd.exports import write_csv, write_svg

    writers: dict[str, tuple[Path | None, Callable[[Path], None]]] = {
        "csv": (outputs.csv, partial(write_csv, tables)),
        "svg": (outputs.svg, partial(write_svg, figures)),
    }
    if page is not None:
        writers["pdf"] = (outputs.pdf, partial(print_pdf, page))
    written = {}
    for option, (path, write) in writers.items():
        if path is not None:
            with told_as(option, path):
                write(path)
            written[option] = str(path)
    return written


@contextmanager
def told_as(option: str, path: Path) -> Iterator[None]:
    """ConfigError naming the option where its path cannot be written."""
    try:
        yield
    except OSError as error:
        refuse(f"--{option}", f"{path} cannot be written: {error.strerror}")


def check_new_folder(path: Path, option: str) -> None:
    try:
        refuse_occupied(path)
    except FileExistsError as error:
        refuse(option, str(error))


def check_new_file(path: Path, option: str, ending: str) -> None:
    """ConfigError naming the option where the file's name or folder will not do."""
    if path.suffix != ending:
        refuse(option, f"{path} does not end in {ending}; give a name that does")
    if not path.parent.is_dir():
        refuse(option, f"{path.parent} is not a folder; make it first")


def record_of(folder: Path) -> Record:
    """The run in a folder; ConfigError where there is none."""
    if (folder / SWEEP).is_file():
        raise ConfigError(
            f"{folder} is the folder of a sweep; take dsgd compare {folder} --out FILE.html, or one of its runs"
        )
    try:
        return read_record(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from None


def made(record: Record) -> RunReport:
    """The report of a run; without its network, and saying so, where its configuration names what is not here."""
    from dsgd.run_report import run_report

    by_file = shlex.join(["dsgd", "run", str(record.path / "config.yaml"), *named()])
    try:
        config = read(record.config)
    except REFUSALS as error:
        why = one_line(str(error).partition("\n")[0])
        say(f"warning: the page is without its network, for {record.path / 'config.yaml'} could not be read: {why}")
        return run_report(
            record, by_file, None, [f"The network is not shown, for config.yaml could not be read: {why}"]
        )
    short = words(config)
    return run_report(record, shlex.join(["dsgd", "run", *short, *named()]) if short else by_file, config.run.topology)


def write_page(text: str, path: Path) -> None:
    """Writes a page, whole or not at all; ConfigError where it cannot be written."""
    from dsgd.atomic import write_atomically

    with told_as("out", path):
        write_atomically(path, text)


def _write(report: RunReport, path: Path, refresh: int = 0) -> None:
    from dsgd.run_report import render

    write_page(render(report, refresh), path)


def _watched(folder: Path, page: Path) -> Record:
    """Writes the page whenever there is something new, until the run ends; the run as it was then."""
    shown: Record | None = None
    say(f"watching {folder} until the run ends; the page: {page}")
    try:
        while True:
            found = record_of(folder)
            if not found.running:
                return found
            if shown is None or (found.rows, found.events) != (shown.rows, shown.events):
                _write(made(found), page, SECONDS_BETWEEN_PAGES)
                shown = found
            _sleep_while_running(folder)
    except KeyboardInterrupt:
        if shown is not None:
            _write(made(shown), page)
        raise


def _sleep_while_running(folder: Path) -> None:
    for _ in range(SECONDS_BETWEEN_PAGES):
        if is_running(folder):
            time.sleep(1)


def _of_study(folder: Path, outputs: Outputs) -> dict[str, Any]:
    """Where a study's page is; printed where that is asked for."""
    page = folder / PAGE
    if not page.is_file():
        raise ConfigError(f"{folder} holds no report yet; dsgd study writes it when its runs are done")
    if outputs.csv or outputs.svg or outputs.page not in (None, page):
        option = "--csv" if outputs.csv else "--svg" if outputs.svg else "--out"
        refuse(option, f"{folder} is a study's, whose report dsgd study writes; look into {page} and its figures")
    written = {"study_dir": str(folder), "report": str(page)}
    if outputs.pdf is not None:
        check_new_file(outputs.pdf, "--pdf", ".pdf")
        print_pdf(page, outputs.pdf)
        written["pdf"] = str(outputs.pdf)
    return written
