"""The topology of a configuration: graph and weights beside a schedule, read into a value step -> W_t."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from dsgd.config.overrides import BARE
from dsgd.config.parts import built, knob_readers, named, plain
from dsgd.config.problems import REFUSALS, ConfigError, attempted, choice, collected, refuse, refuse_key, refused
from dsgd.yaml_values import dotted
from topologies import GRAPHS, SCHEDULES, WEIGHTS, Topology, knobs_of
from topologies.arguments import knob_of
from topologies.files import GRAPH_FORMATS, MATRIX_FORMATS, is_file_name
from topologies.sizes import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from topologies import Schedule

DEFAULT = Topology("ring", 16)
BESIDE_GRAPH = ("graph", "n", "weights", "allow_disconnected")  # the other knobs of a topology are inside its graph


def read_topology(given: Any, path: str) -> Schedule:
    """A schedule, from graph and weights beside the schedule's own knobs."""
    knobs = dict(given) if isinstance(given, Mapping) else {BARE["topology"]: given}
    schedule, at = knobs.pop("schedule", {}), dotted(path, "schedule")
    ground = _graph if "topology" in _names(_innermost(schedule, at)) else _size
    values, problems = attempted({"ground": partial(ground, knobs, path)})
    # Where the graph is wrong another stands in, so that what is wrong with the schedule is found too.
    fixed = values.get("ground", {"topology": DEFAULT, "n": DEFAULT.n})
    values, more = attempted({"schedule": partial(_schedule, fixed, schedule, at)})
    if problems or more:
        raise ConfigError(*problems, *more)
    result: Schedule = values["schedule"]
    return result


def _innermost(given: Any, path: str) -> type[Any]:
    """The kind of the schedule inside all others: it decides whether there is a graph."""
    name, knobs = named(SCHEDULES, "static", given, path)
    if "inner" in _names(SCHEDULES[name]):
        return _innermost(knobs.get("inner", {}), dotted(path, "inner"))
    return SCHEDULES[name]


def _schedule(ground: Mapping[str, Any], given: Any, path: str) -> Any:
    """A schedule on the topology, or of the n, in `ground`."""
    name, knobs = named(SCHEDULES, "static", given, path)
    names = _names(SCHEDULES[name])
    inner = {"inner": knobs.get("inner", {})} if "inner" in names else {}
    fixed = {key: value for key, value in ground.items() if key in names}
    return built(SCHEDULES[name], knobs | inner, path, {"inner": partial(_schedule, ground)}, fixed)


def _graph(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The topology: a graph of a table or from a file, its own knobs, and the weights."""
    beside = {key: value for key, value in given.items() if key != "graph"}
    elsewhere = ("graph", "knobs", "seed", *(() if "n" in beside else ("n",)))
    values = collected(
        {
            "graph": partial(_graph_and_knobs, given.get("graph", {}), dotted(path, "graph")),
            "beside": lambda: collected(
                knob_readers(Topology, beside, path, {"weights": _rule}, elsewhere, ("graph", "schedule"))
            ),
        }
    )
    return {"topology": _topology(path, **values["graph"], **values["beside"])}


def _topology(path: str, **values: Any) -> Topology:
    """The topology; without n it is that of the file, or the default."""
    try:
        if "n" not in values and is_file_name(values["graph"]):
            return Topology.from_file(values["graph"], **{k: v for k, v in values.items() if k != "graph"})
        return Topology(**({"n": DEFAULT.n} | values))
    except REFUSALS as error:
        raise blame_topology(error, path) from None


def _graph_and_knobs(given: Any, path: str) -> dict[str, Any]:
    own = dict(given) if isinstance(given, Mapping) else {"name": given}
    name, seed = own.pop("name", DEFAULT.graph), own.pop("seed", 0)
    if not is_file_name(name):
        name = choice(GRAPHS, name, path, f"a file that ends in {', '.join(GRAPH_FORMATS)}")
    known = () if is_file_name(name) else (*knobs_of(name), "seed")
    knobs = {key: partial(_number, known, value, dotted(path, str(key))) for key, value in own.items()}
    return collected(
        {
            "graph": lambda: name,
            "seed": partial(plain, int, seed, dotted(path, "seed")),
            "knobs": lambda: tuple(collected(knobs).items()),
        }
    )


def _number(known: Sequence[str], given: Any, path: str) -> Any:
    if path.rpartition(".")[2] not in known:
        refuse_key(path, known)
    return plain(int | float, given, path)


def _rule(given: Any, path: str) -> str:
    if is_file_name(given):
        return str(given)
    return choice(WEIGHTS, given, path, f"a file that ends in {', '.join(MATRIX_FORMATS)}")


def blame_topology(error: BaseException, path: str) -> ConfigError:
    """The complaint of a `Topology`, at the key where a configuration has the knob that it names."""
    knob = knob_of(error)
    return refused(error, path if not knob or knob in BESIDE_GRAPH else dotted(path, "graph"))


def _size(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The number of nodes alone, for a schedule that has a graph of its own."""
    misplaced: dict[str, Callable[[], Any]] = {
        key: partial(refuse, dotted(path, key), "given, but the schedule has a graph of its own; leave it out")
        if key in _names(Topology)
        else partial(refuse_key, dotted(path, key), ("n", "schedule"))
        for key in given
        if key != "n"
    }
    n = partial(_possible_size, given.get("n", DEFAULT.n), path)
    return {"n": collected(misplaced | {"n": n})["n"]}


def _possible_size(given: Any, path: str) -> int:
    n: int = plain(int, given, dotted(path, "n"))
    try:
        check_size("a schedule", n)
    except ValueError as error:
        raise blame_topology(error, path) from None
    return n


def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(knob.name for knob in fields(kind))
