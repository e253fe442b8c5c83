"""`dsgd runs` and `dsgd show`: what `dsgd.cli.folders` found, in print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgd.cli import printed
from dsgd.cli.folders import Facts, facts, listed
from dsgd.config.problems import ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLUMNS = {
    "test_accuracy_mean_model": "test accuracy",
    "train_loss_mean_model": "train loss",
    "consensus_distance": "consensus distance",
}
ASKED = ("task", "model", "topology", "algorithm", "gradient", "optimizer", "learning_rate", "batch_size", "seed")
AGES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def list_runs(root: Path, as_json: bool) -> None:
    """Prints a line for each run, sweep and study below a folder."""
    found = listed(root)
    brief = [{name: value for name, value in one.items() if name not in ("config", "summary")} for one in found]
    printed.show(brief, harmless(in_lines(found, root)) or f"no runs in {root}", as_json)


def show_folder(folder: Path, as_json: bool) -> None:
    """Prints what a run, a sweep or a study found."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; dsgd runs lists those that are there")
    found = facts(folder)
    text = "\n\n".join(part for part in (_shown(found), *_onward(found)) if part)
    printed.show(found, harmless(text), as_json)


def harmless(text: str) -> str:
    """The text with nothing that a terminal would obey: a folder may come from anybody."""
    return "\n".join(map(one_line, text.split("\n")))


def in_lines(found: Sequence[Facts], root: Path) -> str:
    """A line each: where, how it stands, how many steps or runs, the main metrics, and how long ago."""
    if not found:
        return ""
    names = [name for name in COLUMNS if any(name in one["metrics"] for one in found)]
    heads = ["folder", "status", "steps", *(COLUMNS[name] for name in names), "age"]
    lines = [
        [
            _inside(one["folder"], root),
            one["status"],
            _extent(one),
            *(printed.cell(one["metrics"].get(name)) for name in names),
            age(one["age_seconds"]),
        ]
        for one in found
    ]
    return printed.columns([heads, *lines])


def _inside(folder: str, root: Path) -> str:
    path = Path(folder)
    return folder if path == root else str(path.relative_to(root))


def _extent(one: Facts) -> str:
    """Steps done of those asked for, or runs."""
    if one["kind"] != "run":
        return f"{one['kind']} of {one['runs']} runs" if "runs" in one else one["kind"]
    if "steps" not in one:
        return "-"
    return str(one["steps"]) if one["steps"] == one["of_steps"] else f"{one['steps']} of {one['of_steps']}"


def age(seconds: float) -> str:
    """34 s, 5 min, 3 h, 12 d."""
    size, unit = next(((size, unit) for size, unit in AGES if seconds >= size), (1.0, "s"))
    return f"{int(seconds / size)} {unit}"


def _shown(found: Facts) -> str:
    if found["kind"] == "study" and "summary" in found:
        return printed.of_study(found["summary"], Path(found["folder"]))
    if found["kind"] == "sweep" and "table" in found.get("summary", {}):
        from dsgd.cli.sweep_tables import in_print

        return in_print(found["summary"])
    if found["kind"] != "run":
        names = ("folder", "status", "study", "runs", "error")
        return printed.pairs({name: found[name] for name in names if name in found})
    return _of_run(found)


def _of_run(found: Facts) -> str:
    """How it stands, what was asked, and what was measured last."""
    head = {"folder": found["folder"], "status": found["status"], "steps": _extent(found)}
    told = ("error", "seconds", "replica_steps_per_second", "bytes_crossed", "dropped")
    head |= {name: found[name] for name in told if name in found}
    asked = {name: _spelled(found["config"][name]) for name in ASKED if name in found.get("config", {})}
    measured = {name: value for name, value in found["metrics"].items() if not isinstance(value, list | dict)}
    return "\n\n".join(
        printed.pairs(part) for part in (head | {"age": age(found["age_seconds"])}, asked, measured) if part
    )


def _spelled(part: Any) -> str:
    """A part of a configuration in a line: its name, and its knobs; the inner parts by their names."""
    if not isinstance(part, dict):
        return printed.cell(part)
    knobs = {name: value for name, value in part.items() if name != "name" and value is not None}
    words = (f"{name}={_brief(value)}" for name, value in knobs.items())
    return " ".join([*([str(part["name"])] if "name" in part else []), *words])


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    return f"[{', '.join(map(_brief, value))}]" if isinstance(value, list) else printed.cell(value)


def _onward(found: Mapping[str, Any]) -> list[str]:
    """How to go on."""
    if not found["next"]:
        return []
    head = "to look closer:" if found["kind"] == "run" and found["status"] == "ok" else "to go on:"
    head = "to repeat:" if found["kind"] != "run" and found["status"] == "ok" else head
    return ["\n".join([head, *(f"  {command}" for command in found["next"])])]
