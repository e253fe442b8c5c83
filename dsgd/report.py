"""The report of a study: one self-contained page, and the same in Markdown, from its summary, tables and figures."""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from dsgd.figures import FOLDER, file_names
from dsgd.pages import Cell, inline, number, template
from dsgd.pages import Table as Table
from dsgd.pages import paragraphs as paragraphs
from dsgd.statistics import LEVEL, UNAVAILABLE_LIMIT
from dsgd.typography import duration, symbols, written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dsgd.figures import Figure

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
SMOKE = "The preset smoke shows that the study runs: these verdicts say nothing."
CONTROLS = (
    "A control violates a claim's assumptions on purpose, or checks what must be so: “supported” means that it came "
    "out as it must, and so that the measurement can tell the difference."
)
MEANINGS = (
    "Bounds are tested by one-sided t-tests, two for a criterion with two bounds; the p-values of all claims of the "
    f"study are adjusted by Holm's method. The level {LEVEL:g} is Pocock's for two looks, at the seeds and at twice as "
    "many: a claim on its own is decided wrongly in 5 % of studies. Intervals are of 95 %, over independent runs: "
    "Student's t below 20 runs, BCa bootstrap from 20 on. They have two sides also where the test has one, and "
    "Student's are symmetric, so they may cross the bound of such a criterion, or a limit that the quantity itself "
    "cannot pass. Quantities without spread, or of one run only (n = 1), are compared with the bounds, and count among "
    "the claims with p = 0 or 1. Measurements (snapshots or fits) that gave no number are counted beside n. The margin "
    "is the distance from the estimate to the nearest bound."
)
CLAIM_COLUMNS = ("", "claim", "kind", "estimate", "95 % interval", "n", "criterion", "verdict")
STRIP_WIDTH = 160.0


def render_html(
    summary: Summary,
    tables: Sequence[Table] = (),
    figures: Sequence[Figure] = (),
    notes: Sequence[str] = (),
    definitions: Mapping[str, str] | None = None,
) -> str:
    """The whole page. `summary` is what `dsgd.study.conduct` returns, `definitions` say what its symbols mean.

    ValueError for a figure that is not inert.
    """
    return template("report.html.j2", gaps=gaps, left_open=left_open, strip=strip, tested=tested).render(
        summary=summary,
        headline=headline(summary["claims"], summary["preset"]),
        calm=all(claim["verdict"] == "supported" for claim in summary["claims"]),
        controls=_controls(summary),
        definitions=definitions or {},
        tables=tables,
        figures=inline(figures),
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
    definitions: Mapping[str, str] | None = None,
) -> str:
    """The same report as GitHub Markdown; its figures are files in `figures`, beside it."""
    parts = [f"# {plain(summary['study'])}", prose(summary["question"])]
    parts += [f"**{prose(line)}**" for line in headline(summary["claims"], summary["preset"])]
    parts += [prose(paragraph) for paragraph in paragraphs(summary.get("answer", ""))]
    parts += _listed("Symbols", definitions or {})
    title, claims = _markdown_table(Table("Claims and controls", CLAIM_COLUMNS, _rows(summary)))
    parts += [part for part in (title, prose(_controls(summary)), claims) if part]
    for table in tables:
        parts += _markdown_table(table)
    parts += ["## Figures"] * bool(figures)
    for name, figure in zip(file_names(figures), figures, strict=True):
        title = prose(figure.title)
        parts += [f"### {title}", f"![{title}]({FOLDER}/{name})", *([prose(figure.caption)] if figure.caption else [])]
    if notes:
        parts += ["## Notes", "\n".join(f"- {prose(note)}" for note in notes)]
    parts += ["## How it was run", "\n".join(f"- **{name}**: {plain(text)}" for name, text in facts(summary))]
    parts += _listed("What the verdicts mean", {name: meaning for name, (_, meaning) in VERDICTS.items()})
    return "\n\n".join([*parts, prose(MEANINGS)]) + "\n"


def headline(claims: Sequence[Mapping[str, Any]], preset: str = "") -> list[str]:
    """The verdicts in a few sentences: claims, controls, and how many of them are of one value, which is no test."""
    sentences = [SMOKE] if preset == "smoke" else []
    for kind, word in (("claim", "supported"), ("control", "behaved as a control must")):
        counted = Counter(claim["verdict"] for claim in claims if claim["kind"] == kind)
        if total := counted.total():
            others = [f"{counted[verdict]} {verdict}" for verdict in ("refuted", "inconclusive") if counted[verdict]]
            ending = f" ({', '.join(others)})" if others else ""
            sentences.append(f"{counted['supported']} of {total} {kind}{'s' * (total > 1)} {word}{ending}.")
    if alone := sum(claim.get("n") == 1 for claim in claims):
        sentences.append(f"{alone} of these {len(claims)} verdicts compare one value; only more seeds are a test.")
    return sentences or ["This study makes no claims."]


def facts(summary: Summary) -> list[tuple[str, str]]:
    """How the study was run, as pairs of a name and a text."""
    machine = summary["machine"]
    versions = ", ".join(f"{name} {version or 'unknown'}" for name, version in summary["versions"].items())
    return [
        ("command", summary["command"]),
        ("preset", f"{summary['preset']}, {summary['seeds']} seeds from {summary['seed']}{_look(summary)}"),
        ("runs", f"{_runs(summary)}, whose training took {duration(summary['run_seconds'])} in all"),
        ("time", f"{duration(summary['seconds'])}: {_trained(summary['trained'], summary['runs'])}"),
        ("versions", versions),
        ("commit", summary["git"] or "unknown, not run from a checkout"),
        ("machine", f"{machine['platform']}, {machine['cpus']} CPUs, device {machine['device']}"),
    ]


def tested(claim: Mapping[str, Any]) -> str:
    """What stands behind a verdict where that is not two one-sided tests; empty where it is."""
    lo, hi = claim["ci"]
    if claim["verdict"] != "inconclusive" and (claim["n"] == 1 or (lo is not None and lo == hi)):
        values = "the only value" if claim["n"] == 1 else "every value"
        return f"{values} is {number(claim['estimate'])}: compared, not tested"
    return "one-sided test" if None in (claim["low"], claim["high"]) else ""


def left_open(claim: Mapping[str, Any]) -> str:
    """Why a claim is inconclusive, in numbers; empty where it is not, or where its gaps say it."""
    text = written(claim)
    if claim["verdict"] != "inconclusive" or not text["half_width"]:
        return ""
    p = min(claim.get("p_inside") or 1.0, claim.get("p_outside") or 1.0)
    if claim["margin"] <= claim["half_width"] or p == 1:
        return f"half-width {text['half_width']}, margin {text['margin']}"
    return f"p {p:.2g} among the study's claims, not below {LEVEL:g}; its own interval is clear of the bound"


def gaps(claim: Mapping[str, Any]) -> str:
    """How many of a claim's measurements gave no number; nothing where all did."""
    return f"{claim['unavailable']} of {claim['measurements']} unavailable" if claim.get("unavailable") else ""


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


def prose(text: str) -> str:
    """`text` for Markdown, with the signs of print."""
    return plain(symbols(text))


def _look(summary: Summary) -> str:
    return ", twice as many as at first: some claims were inconclusive" if summary.get("looks", 1) > 1 else ""


def _runs(summary: Summary) -> str:
    diverged = summary.get("diverged", 0)
    return f"{summary['runs']}, of which {diverged} diverged" if diverged else str(summary["runs"])


def _trained(trained: int, runs: int) -> str:
    """How many of the runs were trained just now."""
    counts = [f"{trained} trained"] * (trained > 0) + [f"{runs - trained} reused"] * (trained < runs)
    return ", ".join(counts) or "no runs"


def _controls(summary: Summary) -> str:
    return CONTROLS if any(claim["kind"] == "control" for claim in summary["claims"]) else ""


def _rows(summary: Summary) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for claim in summary["claims"]:
        text, why = written(claim), left_open(claim)
        criterion = "; ".join(part for part in (claim["criterion"], tested(claim)) if part)
        sign, number_of = VERDICTS[claim["verdict"]][0], f"{claim['n']} ({gaps(claim)})" if gaps(claim) else claim["n"]
        measured = (text["estimate"], text["interval"], number_of)
        rows.append(
            [sign, claim["name"], claim["kind"], *measured, criterion, claim["verdict"] + (f" ({why})" if why else "")]
        )
    return rows


def _markdown_table(table: Table) -> list[str]:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    cells = [[prose(number(cell)) for cell in line] for line in lines]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return [f"## {prose(table.title)}", drawn, *([prose(table.caption)] if table.caption else [])]


def _listed(title: str, meanings: Mapping[str, str]) -> list[str]:
    """A section that says of each name what it is; none where there are no names."""
    lines = [f"- **{prose(name)}**: {prose(meaning)}".removesuffix(": ") for name, meaning in meanings.items()]
    return [f"## {title}", "\n".join(lines)] if lines else []
