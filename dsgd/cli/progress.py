"""How far a run or a study is, on stderr: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dsgd.typography import duration

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.metrics import Values

SHOWN = {"test_accuracy_mean_model": "test accuracy", "train_loss_mean_model": "train loss"}
SECONDS_BETWEEN_LINES = 5.0

Clock = Callable[[], float]
Show = Callable[[int, float, str], None]  # steps done, steps a second, the latest values in words
Count = Callable[[int, int, str, float | None], None]  # runs done, of how many, the next one's label, seconds left


class Meter:
    """An observer that tells `show` how far a run is, at every step, the last one when it was measured.

    Its pace is that since the first step seen: starting up is no part of it.
    """

    def __init__(self, steps: int, show: Show, clock: Clock = time.monotonic) -> None:
        self.steps, self.show, self.clock = steps, show, clock
        self.first: tuple[int, float] | None = None
        self.values = ""

    def stepped(self, step: int) -> None:
        if self.first is None:
            self.first = step, self.clock()
        elif step < self.steps:
            self._show(step)

    def measured(self, row: Values) -> None:
        self.values = in_words(row)
        if row["step"] == self.steps:
            self._show(self.steps)

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: a snapshot is no progress."""

    def event(self, event: str, **details: object) -> None:
        """What is said in a sentence is said here too."""
        if sentence := details.get("sentence"):
            print(sentence, file=sys.stderr, flush=True)

    def _show(self, step: int) -> None:
        first, began = self.first or (step, 0.0)
        self.show(step, (step - first) / max(self.clock() - began, 1e-9), self.values)


@contextmanager
def progress(steps: int) -> Iterator[Meter]:
    """An observer that reports a run of `steps` steps while the block lasts."""
    if _on_terminal():
        with live(steps) as show:
            yield Meter(steps, show)
    else:
        yield Meter(steps, lines(steps, _to_stderr))


def lines(steps: int, say: Callable[[str], None], clock: Clock = time.monotonic) -> Show:
    """Says a line every few seconds and at the end."""
    latest = clock()

    def show(step: int, rate: float, values: str) -> None:
        nonlocal latest
        if step == steps or clock() - latest >= SECONDS_BETWEEN_LINES:
            latest = clock()
            pace = f"  {rate:.4g} steps/s  {duration((steps - step) / rate)} left" if rate else ""
            say(f"step {step}/{steps}{pace}{values}")

    return show


@contextmanager
def live(steps: int) -> Iterator[Show]:
    """Redraws one line of the terminal; rich honours NO_COLOR."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    figures = (
        TextColumn("{task.fields[rate]:.4g} steps/s "),
        TimeRemainingColumn(),
        TextColumn("left{task.fields[values]}"),
    )
    with Progress(BarColumn(), MofNCompleteColumn(), *figures, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps, rate=0.0, values="")
        yield lambda step, rate, values: bar.update(task, completed=step, rate=rate, values=values)


@contextmanager
def study_progress() -> Iterator[Count]:
    """What a study tells how many of its runs are done."""
    if _on_terminal():
        with live_count() as count:
            yield count
    else:
        yield count_lines(_to_stderr)


def count_lines(say: Callable[[str], None], clock: Clock = time.monotonic) -> Count:
    """Says a line at the first run, every few seconds, and at the end."""
    latest = -float("inf")

    def count(done: int, total: int, label: str, left: float | None) -> None:
        nonlocal latest
        if done == total or clock() - latest >= SECONDS_BETWEEN_LINES:
            latest = clock()
            say(f"run {done}/{total}{'' if left is None else f'  {duration(left)} left'}{label and f'  {label}'}")

    return count


@contextmanager
def live_count() -> Iterator[Count]:
    """Redraws one line of the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    text = TextColumn("{task.fields[left]}{task.description}", markup=False)
    with Progress(BarColumn(), MofNCompleteColumn(), text, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, left="")

        def count(done: int, total: int, label: str, left: float | None) -> None:
            remaining = "" if left is None else f"{duration(left)} left  "
            bar.update(task, completed=done, total=total, description=label, left=remaining)

        yield count


def in_words(row: Values) -> str:
    """The few values of a row that tell how a run is doing; empty where it has none of them."""
    found = ((label, row.get(name)) for name, label in SHOWN.items())
    return "".join(f"  {label} {value:.4g}" for label, value in found if isinstance(value, int | float))


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
