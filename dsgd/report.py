"""The report of a study: one self-contained page, and the same in Markdown, from its summary, tables and figures.

The page loads nothing and runs nothing: its content security policy allows only its own style. Every text is escaped,
for names come from configs and are hostile until shown otherwise; a figure's SVG is checked to hold drawing only.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.figures import check_inert
from dsgd.statistics import LEVEL, UNAVAILABLE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgd.figures import Figure

Cell = str | float | int | None
Summary = dict[str, Any]

VERDICTS = {
    "supported": ("✓", f"the data show the quantity inside the criterion's bounds (adjusted p < {LEVEL:g})"),
    "refuted": ("✕", f"the data show it outside (adjusted p < {LEVEL:g})"),
    "inconclusive": (
        "?",
        "the data show neither, also after the number of seeds was doubled once, "
        f"or more than {UNAVAILABLE_LIMIT:.0%} of the measurements are unavailable",
    ),
}
MEANINGS = (
    "Bounds are tested by one-sided t-tests, two for a criterion with two bounds; the p-values of all claims of the "
    f"study are adjusted by Holm's method. The level {LEVEL:g} is Pocock's for two looks, at the seeds and at twice as "
    "many: a claim on its own is decided wrongly in 5 % of studies. Intervals are of 95 %, over independent runs: "
    "Student's t below 20 runs, BCa bootstrap from 20 on. Quantities without spread, or of one run only (n = 1), are "
    "compared with the bounds. Measurements (snapshots or fits) that gave no number are counted beside n. A control is "
    "supported when it behaved as a control must. The margin is the distance from the estimate to the nearest bound."
)
STRIP_WIDTH = 160.0


@dataclass(frozen=True)
class Table:
    """A titled table; each row has one cell a column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    @property
    def numeric(self) -> set[int]:
        """The columns that hold numbers, and nothing else but gaps."""
        columns = enumerate(zip(*self.rows, strict=True))
        return {i for i, cells in columns if not any(isinstance(cell, str) for cell in cells)}


def render_html(
    summary: Summary,
    tables: Sequence[Table] = (),
    figures: Sequence[Figure] = (),
    notes: Sequence[str] = (),
) -> str:
    """The whole page. `summary` is what `dsgd.study.conduct` returns; ValueError for a figure that is not inert."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    pages = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"number": number, "duration": duration, "interval": interval, "strip": strip, "gaps": gaps}
    # check_inert has read every figure, so its text may pass unescaped
    drawn = [(figure, Markup(check_inert(figure.svg))) for figure in figures]
    return pages.get_template("report.html.j2").render(
        summary=summary,
        headline=headline(summary["claims"]),
        calm=all(claim["verdict"] == "supported" for claim in summary["claims"]),
        tables=tables,
        figures=drawn,
        notes=notes,
        facts=facts(summary),
        verdicts=VERDICTS,
        meanings=MEANINGS,
    )


def render_markdown(
    summary: Summary,
    tables: Sequence[Table] = (),
    figures: Sequence[Figure] = (),
    notes: Sequence[str] = (),
) -> str:
    """The same report as GitHub Markdown; of the figures only titles and captions, for Markdown holds no drawing."""
    claims = Table(
        "Claims", ("", "claim", "kind", "estimate", "95 % interval", "n", "criterion", "verdict"), _rows(summary)
    )
    parts = [f"# {plain(summary['study'])}", plain(summary["question"])]
    parts += [f"**{plain(line)}**" for line in headline(summary["claims"])]
    parts += [plain(summary["answer"])] if summary.get("answer") else []
    parts += _markdown_table(claims)
    for table in tables:
        parts += _markdown_table(table)
    if figures:
        listed = [f"- **{plain(f.title)}** {plain(f.caption)}".rstrip() for f in figures]
        parts += ["## Figures", "Drawn in `report.html`, beside this file.", "\n".join(listed)]
    if notes:
        parts += ["## Notes", "\n".join(f"- {plain(note)}" for note in notes)]
    parts += _markdown_table(Table("How it was run", ("", ""), facts(summary)))
    meanings = [f"- **{name}**: {meaning}" for name, (_, meaning) in VERDICTS.items()]
    parts += ["## What the verdicts mean", "\n".join(meanings), MEANINGS]
    return "\n\n".join(parts) + "\n"


def headline(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """The verdicts in one or two sentences: first the claims, then the controls."""
    sentences = []
    for kind, word in (("claim", "supported"), ("control", "behaved as a control must")):
        counted = Counter(claim["verdict"] for claim in claims if claim["kind"] == kind)
        if total := counted.total():
            others = [f"{counted[verdict]} {verdict}" for verdict in ("refuted", "inconclusive") if counted[verdict]]
            ending = f" ({', '.join(others)})" if others else ""
            sentences.append(f"{counted['supported']} of {total} {kind}{'s' * (total > 1)} {word}{ending}.")
    return sentences or ["This study makes no claims."]


def facts(summary: Summary) -> list[tuple[str, str]]:
    """How the study was run, as pairs of a name and a text."""
    machine = summary["machine"]
    versions = ", ".join(f"{name} {version or 'unknown'}" for name, version in summary["versions"].items())
    return [
        ("command", summary["command"]),
        ("preset", f"{summary['preset']}, {summary['seeds']} seeds from {summary['seed']}"),
        ("runs", f"{summary['runs']}, trained in {duration(summary['run_seconds'])}"),
        ("time", f"{duration(summary['seconds'])}, finished runs reused"),
        ("versions", versions),
        ("commit", summary["git"] or "unknown, not run from a checkout"),
        ("machine", f"{machine['platform']}, {machine['cpus']} CPUs, device {machine['device']}"),
    ]


def number(value: Cell) -> str:
    """A cell's text: four significant digits, whole numbers whole, a dash for what is missing."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    return (str(value) if isinstance(value, int) else f"{value:.4g}").replace("-", "−")


def interval(ci: Sequence[float | None]) -> str:
    lo, hi = ci
    return "–" if lo is None or hi is None else f"[{number(lo)}, {number(hi)}]"


def gaps(claim: Mapping[str, Any]) -> str:
    """How many of a claim's measurements gave no number; nothing where all did."""
    return f"{claim['unavailable']} of {claim['measurements']} unavailable" if claim.get("unavailable") else ""


def duration(seconds: float) -> str:
    """7.4 s, 3 min 05 s, 2 h 10 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def strip(claim: Mapping[str, Any]) -> dict[str, float]:
    """Where a claim's estimate, interval and accepted band lie on a strip of 160 units: x of dot, lo, hi, low, high."""
    lo, hi = claim["ci"]
    marks = {"dot": claim["estimate"], "lo": lo, "hi": hi, "low": claim["low"], "high": claim["high"]}
    shown = [value for value in marks.values() if value is not None]
    room = (max(shown) - min(shown)) * 0.15 or abs(shown[0]) * 0.15 or 1.0
    left, width = min(shown) - room, max(shown) - min(shown) + 2 * room
    dot = left if claim["estimate"] is None else claim["estimate"]
    ends = {"dot": dot, "lo": dot, "hi": dot, "low": left, "high": left + width}
    placed = {name: ends[name] if value is None else value for name, value in marks.items()}
    return {name: round(STRIP_WIDTH * (value - left) / width, 2) for name, value in placed.items()}


def plain(text: object) -> str:
    """`text` on one line, with what Markdown or HTML would read as markup escaped."""
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def _rows(summary: Summary) -> list[list[Cell]]:
    def verdict(claim: Mapping[str, Any]) -> str:
        wide = claim["verdict"] == "inconclusive" and claim["half_width"] is not None
        widths = f" (half-width {number(claim['half_width'])}, margin {number(claim['margin'])})" if wide else ""
        return f"{claim['verdict']}{widths}"

    return [
        [
            VERDICTS[c["verdict"]][0],
            c["name"],
            c["kind"],
            c["estimate"],
            interval(c["ci"]),
            f"{c['n']} ({gaps(c)})" if gaps(c) else c["n"],
            c["criterion"],
            verdict(c),
        ]
        for c in summary["claims"]
    ]


def _markdown_table(table: Table) -> list[str]:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    cells = [[plain(number(cell)) for cell in line] for line in lines]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return [f"## {plain(table.title)}", drawn, *([plain(table.caption)] if table.caption else [])]
