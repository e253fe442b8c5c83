"""`dsgd run --dry-run`: the resolved configuration on stdout, what it would cost on stderr; nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsgd.cli import printed
from dsgd.config import resolved
from dsgd.yaml_values import to_text

if TYPE_CHECKING:
    from dsgd.cli.sweeping import Asked
    from dsgd.config import Config


def show_run(config: Config, as_json: bool) -> None:
    """One run's configuration, and its cost."""
    printed.show(resolved(config), to_text(resolved(config)).rstrip(), as_json)
    tell_cost(config)


def tell_cost(config: Config) -> None:
    """The size of a run on stderr, and about how long it would take; ConfigError for what the machine cannot do."""
    from dsgd.cli.estimates import estimate, in_lines
    from dsgd.config.checks import check_backend, check_model

    check_backend(config.backend, config.run)
    check_model(config.run)
    printed.say(printed.pairs(in_lines(estimate(config), config.run.steps)))


def show_sweep(asked: Asked, as_json: bool) -> None:
    """The runs of a sweep, their folders and which are finished already, and the cost of the first."""
    from dsgd.cli.sweep_tables import run_row
    from dsgd.cli.sweeping import folders_of, points_of

    points = points_of(asked)
    folders = folders_of(points, asked.folder(points[0].config.name))
    rows = [run_row(p.label, asked.sweep.values(p.choice), folders[p.label]) for p in points]
    lines = [(row["label"], row["status"], row["folder"]) for row in rows]
    printed.show(rows, printed.columns(lines), as_json)
    missing = sum(row["status"] == "missing" for row in rows)
    printed.say(f"{len(rows)} runs, {missing} to be trained; the first of them:")
    tell_cost(points[0].config)
