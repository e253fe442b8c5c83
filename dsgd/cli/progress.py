"""How far a run or a study is, on stderr: a live view on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dsgd.loop import metrics_due
from dsgd.run import PARTS
from dsgd.typography import duration

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.metrics import Values
    from dsgd.run import Run

SHOWN = {"test_accuracy_mean_model": "test accuracy", "train_loss_mean_model": "train loss"}
SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_LOOKS = 5.0, 0.25
SLOW = 2.0  # seconds; what took longer to measure is said before it is measured again

Clock = Callable[[], float]
Count = Callable[[int, int, str, float | None], None]  # runs done, of how many, the next one's label, seconds left


class Meter:
    """An observer that knows where a run stands, and tells `tell` after each step and each measurement.

    `measuring` names the metrics that are being computed now; `rows` are what was measured so far, also in earlier
    sittings; `steps_per_second` counts from the first step seen: starting up is no part of it.
    """

    def __init__(
        self, run: Run, tell: Callable[[Meter], None], clock: Clock = time.monotonic, rows: Sequence[Values] = ()
    ) -> None:
        self.run, self.tell, self.clock, self.rows = run, tell, clock, list(rows)
        self.step, self.at, self.began = 0, clock(), clock()
        self.first: tuple[int, float] | None = None
        self.measuring: tuple[str, ...] = () if rows else _names(run, 0)
        self._took: dict[tuple[str, ...], float] = {}

    def stepped(self, step: int) -> None:
        self.step, self.at = step, self.clock()
        self.first = self.first or (step, self.at)
        self.measuring = _names(self.run, step)
        self.tell(self)

    def measured(self, row: Values) -> None:
        self._took[self.measuring], self.measuring = self.clock() - self.at, ()
        self.rows.append(row)
        self.tell(self)

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: a snapshot is no progress."""

    def event(self, event: str, **details: object) -> None:
        """What is said in a sentence is said here too."""
        if sentence := details.get("sentence"):
            print(sentence, file=sys.stderr, flush=True)

    @property
    def done(self) -> bool:
        """Whether all steps are taken, and what is due after them is measured."""
        return self.step == self.run.steps and not self.measuring

    @property
    def waiting(self) -> bool:
        """Whether what is measured now has not been before, or took long the last time."""
        return bool(self.measuring) and self._took.get(self.measuring, SLOW) >= SLOW

    @property
    def steps_per_second(self) -> float:
        """The pace up to the last step; 0 where it is not known yet."""
        first, began = self.first or (0, self.at)
        return (self.step - first) / max(self.at - began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """What the steps to come take at this pace."""
        pace = self.steps_per_second
        return (self.run.steps - self.step) / pace if pace else None


def _names(run: Run, step: int) -> tuple[str, ...]:
    """Of the metrics that are due after so many steps."""
    return tuple(PARTS.get(type(metric), type(metric).__name__) for metric in metrics_due(run, step))


@contextmanager
def progress(run: Run, rows: Sequence[Values] = (), title: str = "") -> Iterator[Meter]:
    """An observer that reports the run while the block lasts; `rows` were measured in earlier sittings."""
    if _on_terminal():
        from dsgd.cli.live import live

        meter = Meter(run, lambda meter: None, rows=rows)
        with live(meter, title):
            yield meter
    else:
        yield Meter(run, lines(_to_stderr), rows=rows)


def lines(say: Callable[[str], None], clock: Clock = time.monotonic) -> Callable[[Meter], None]:
    """Says a line every few seconds, before what may take long to measure, and at the end."""
    latest = clock()

    def tell(meter: Meter) -> None:
        nonlocal latest
        at = f"step {meter.step}/{meter.run.steps}"
        if meter.waiting:
            say(f"{at}  measuring {', '.join(meter.measuring)} ...")
        elif meter.done or clock() - latest >= SECONDS_BETWEEN_LINES:
            latest = clock()
            say(f"{at}{_pace(meter)}{in_words(meter.rows[-1] if meter.rows else {})}")

    return tell


def _pace(meter: Meter) -> str:
    if not (pace := meter.steps_per_second):
        return ""
    left = "" if meter.done else f"  {duration(meter.seconds_left or 0)} left"
    return f"  {pace:.4g} steps/s{left}"


@contextmanager
def study_progress() -> Iterator[Count]:
    """What a study tells how many of its runs are done."""
    if _on_terminal():
        with live_count() as count:
            yield count
    else:
        yield count_lines(_to_stderr)


class Together:
    """An observer of several runs, at once or in turn, that tells `count` between two that are done how far they are.

    `steps` are those of all runs that are to be trained. Called as a `Count` itself, when a run is done.
    """

    def __init__(self, steps: int, count: Count, clock: Clock = time.monotonic) -> None:
        self.steps, self.count, self.clock = steps, count, clock
        self.taken, self.began, self.told = 0, clock(), clock()
        self.standing = 0, 0, ""

    def __call__(self, done: int, total: int, label: str, left: float | None) -> None:
        self.standing = done, total, label
        self.count(done, total, label, left)

    def stepped(self, step: int) -> None:
        self.taken += 1
        if (now := self.clock()) - self.told >= SECONDS_BETWEEN_LOOKS:
            self.told = now
            done, total, label = self.standing
            left = (now - self.began) / self.taken * (self.steps - self.taken)
            self.count(done, total, f"{self.taken / self.steps:.0%} of the steps  {label}", left)

    def measured(self, row: Values) -> None:
        """Nothing: too many runs to show what each measures."""

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing."""

    def event(self, event: str, **details: object) -> None:
        """Nothing."""


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
    """Whether stderr can be redrawn, and neither NO_COLOR nor TERM asks for plain lines."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
