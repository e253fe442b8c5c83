"""A run on a terminal while it trains: how far it is, its pace, and how what is measured has gone so far.

Drawn four times a second in a thread of its own; the steps themselves only leave their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dsgd.typography import duration

if TYPE_CHECKING:
    from dsgd.cli.progress import Meter
    from dsgd.metrics import Values

SERIES = {
    "train_loss_mean_model": "train loss",
    "test_loss_mean_model": "test loss",
    "test_accuracy_mean_model": "test accuracy",
    "test_accuracy_replicas_worst": "worst replica's",
    "perplexity": "perplexity",
    "lambda_max": "sharpness, lambda_max",
    "consensus_distance": "consensus distance",
}
BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 32  # characters of a sparkline, and of the bar
SHORT = 0.5  # seconds; what is measured quicker is not worth a line


@contextmanager
def live(meter: Meter, title: str) -> Iterator[None]:
    """Draws the run while the block lasts, and leaves nothing behind."""
    console = Console(stderr=True)
    drawn = Live(
        get_renderable=lambda: view(meter, title, blocks=not console.options.ascii_only),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
    with drawn:
        yield


def view(meter: Meter, title: str, blocks: bool = True) -> RenderableType:
    """What is known of the run now; `blocks` are left out where a terminal cannot write them."""
    rows = list(meter.rows)
    found = {label: values for name, label in SERIES.items() if (values := series(rows, name))}
    table = Table.grid(padding=(0, 2))
    for label, values in found.items():
        table.add_row(label, f"{values[-1]:.4g}", Text(sparkline(values) if blocks else "", "cyan"))
    parts: list[RenderableType] = [Text(title, "bold"), _bar(meter), Text(_pace(meter))]
    parts += [table] if found else []
    return Group(*parts, *([Text(doing, "dim")] if (doing := _doing(meter)) else []))


def series(rows: Sequence[Values], name: str) -> list[float]:
    """The finite values of a column, oldest first."""
    found = (row.get(name) for row in rows)
    return [float(value) for value in found if isinstance(value, int | float) and math.isfinite(value)]


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """A block a value, as high as it is between the least and the greatest; of many, one for the mean of neighbours."""
    count = min(width, len(values))
    edges = [len(values) * k // count for k in range(count + 1)] if count else []
    means = [math.fsum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    least, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(BLOCKS[round((mean - least) / span * (len(BLOCKS) - 1)) if span else 0] for mean in means)


def _bar(meter: Meter) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=meter.run.steps, completed=meter.step, width=WIDTH)
    grid.add_row(bar, f"step {meter.step:,} of {meter.run.steps:,}", f"{meter.step / meter.run.steps:.0%}")
    return grid


def _pace(meter: Meter) -> str:
    """Steps and replica-steps a second, and the time taken and left."""
    taken = f"{duration(meter.clock() - meter.began)} so far"
    if not (pace := meter.steps_per_second):
        return f"{'starting' if meter.first is None else 'first step'}  {taken}"
    left = "" if meter.step == meter.run.steps else f"  {duration(meter.seconds_left or 0)} left"
    return f"{pace:,.4g} steps/s  {pace * meter.run.n:,.4g} replica-steps/s  {taken}{left}"


def _doing(meter: Meter) -> str:
    """What is measured, where that takes a while."""
    names, seconds = meter.measuring, meter.clock() - meter.at
    return f"measuring {', '.join(names)} ... {duration(seconds)}" if names and seconds >= SHORT else ""
