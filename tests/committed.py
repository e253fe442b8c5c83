"""What is wrong with a study's committed results: files, preset, and claims that are not the study's of today."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dsgd.study import Study

Claim = tuple[str, str, str]  # name, kind, criterion
REPORT, SUMMARY, LINK = "report.md", "summary.json", re.compile(r"!\[.*\]\((.*)\)")
ABSOLUTE = re.compile(r"(?<![\w.:/<-])/(?:home|root|tmp|work|mnt|Users|usr|var|opt|src)/")


def problems(folder: Path, study: Study, today: list[Claim], pilot: list[Claim]) -> list[str]:
    """A sentence for each; `today` are the claims of the smoke preset, `pilot` those that the pilot's file holds."""
    if lacking := [name for name in (REPORT, SUMMARY) if not (folder / name).is_file()]:
        return [f"{' and '.join(lacking)} lacking"]
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    return [*_of_files(folder), *_of_summary(folder.name, summary, study), *_of_claims(summary, study, today, pilot)]


def claims_of(rows: list[dict[str, Any]], name: str = "name") -> list[Claim]:
    return [(row[name], row["kind"], row["criterion"]) for row in rows]


def agree(one: str, other: str, pairs: set[tuple[str, str]]) -> bool:
    """Whether two texts are equal but for words that stand for one setting of two presets."""
    words, others = (re.findall(r"\d+(?:,\d{3})+|[^\W_]+(?:\.\d+)?|\S", text) for text in (one, other))
    return len(words) == len(others) and all(a == b or (a, b) in pairs for a, b in zip(words, others, strict=True))


def pairs_of(one: Any, other: Any) -> set[tuple[str, str]]:
    """What may stand for each other in texts of two presets' settings: the values of the fields that differ."""
    found: set[tuple[str, str]] = set()
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if is_dataclass(a) and type(a) is type(b):
            found |= pairs_of(a, b)
        elif a != b:
            found |= set(product(_texts(a), _texts(b)))
    return found


def _texts(value: Any) -> list[str]:
    if isinstance(value, tuple | list):
        return [text for item in value for text in _texts(item)]
    return [f"{value:,}", f"{value:g}"] if isinstance(value, int | float) else [str(value)]


def _of_files(folder: Path) -> Iterator[str]:
    report = (folder / REPORT).read_text(encoding="utf-8")
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {REPORT, SUMMARY, *LINK.findall(report)}
    if there != wanted:
        yield f"files that the report does not show, or shows and are not there: {sorted(there ^ wanted)}"
    for name in sorted(there):
        if found := ABSOLUTE.search((folder / name).read_text(encoding="utf-8")):
            yield f"{name} holds a path of the machine at {found.start()}"


def _of_summary(name: str, summary: Mapping[str, Any], study: Study) -> Iterator[str]:
    standard = study.presets["standard"]
    if (summary["study"], summary["preset"]) != (name, "standard"):
        yield f"of study {summary['study']}, preset {summary['preset']}"
    command = f"dsgd study {name} --preset standard --seed {standard.seed}"
    if summary["command"] != command:
        yield f"made by {summary['command']!r}, today it would be {command!r}"
    if summary["seeds"] not in (standard.seeds, 2 * standard.seeds):
        yield f"of {summary['seeds']} seeds, the preset has {standard.seeds}"
    if not summary["seconds"] > 0:
        yield f"took {summary['seconds']} seconds"


def _of_claims(summary: Mapping[str, Any], study: Study, today: list[Claim], pilot: list[Claim]) -> Iterator[str]:
    found, pairs = claims_of(summary["claims"]), pairs_of(study.presets["smoke"], study.presets["standard"])
    for name, kind, criterion in today:
        if not any(kind == k and agree(name, n, pairs) and agree(criterion, c, pairs) for n, k, c in found):
            yield f"today's study claims {name!r} ({kind}: {criterion}), which was not judged"
    for claim in sorted(set(found) ^ set(pilot)):
        yield f"{claim[0]!r} ({claim[1]}: {claim[2]}) is in {'the results' if claim in found else 'the pilot'} alone"
