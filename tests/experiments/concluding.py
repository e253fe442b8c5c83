"""What a study concludes from histories that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsgd import histories

if TYPE_CHECKING:
    from dsgd.histories import Histories
    from dsgd.statistics import Judged
    from dsgd.study import Report, Study


def judged(study: Study, settings: Any, found: Histories) -> tuple[dict[str, Judged], Report]:
    """Its claims as they are judged, by name, and its report."""
    report = study.report(settings, found)  # type: ignore[arg-type]  # rows are read only
    return histories.judged(report.claims), report


def verdicts_of(study: Study, settings: Any, found: Histories) -> tuple[dict[str, str], Report]:
    """The verdicts on its claims, by name, and its report."""
    claims, report = judged(study, settings, found)
    return {name: one.verdict for name, one in claims.items()}, report


def without(found: Histories, start: str, metric: str, seeds: range) -> Histories:
    """The histories with a metric unavailable in the runs of some seeds whose label starts so."""
    gone = {label for label in found if label.startswith(start) and int(label.split()[-1]) in seeds}
    return {label: [row | {metric: None} if label in gone else row for row in h] for label, h in found.items()}
