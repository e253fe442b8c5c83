"""Whatever is given, it is a run or a list of problems."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dsgd.backends import BACKENDS
from dsgd.config import ConfigError, parse
from dsgd.config.parts import TABLES
from dsgd.run import TWINS, Run
from topologies import GRAPHS, SCHEDULES


def problems_or_run(config: Any) -> tuple[str, ...] | Run:
    try:
        return parse(config)
    except ConfigError as error:
        return error.problems


KEYS = (
    "name",
    "task",
    "model",
    "topology",
    "gradient",
    "twins",
    "metrics",
    "learning_rate",
    "optimizer",
    "backend",
    "steps",
)
KNOBS = (
    "name",
    "graph",
    "n",
    "schedule",
    "inner",
    "every",
    "source",
    "partition",
    "seed",
    "widths",
    "lr",
    "samples",
    "p",
)
NAMES = sorted({name for table in (*TABLES.values(), GRAPHS, SCHEDULES, TWINS, BACKENDS) for name in table})
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 40)
    | st.floats()
    | st.sampled_from(NAMES)
    | st.sampled_from([10**30, -(10**400), "", "x.json", "\x00"])
)
PARTS = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOBS), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), PARTS, max_size=6))
def test_anything_is_a_run_or_a_list_of_problems(config: dict[str, Any]) -> None:
    found: Run | tuple[str, ...] = problems_or_run({"task": "digits", **config})
    if isinstance(found, Run):
        assert parse(found.describe()) == found
    else:
        assert found
        assert all(problem.isprintable() and ": " in problem for problem in found)
