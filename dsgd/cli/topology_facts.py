"""One topology named on the command line: what is known of it, and its drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import topologies
from dsgd.cli.drawing import check_drawing, write_drawing
from dsgd.config.overrides import with_overrides
from dsgd.config.problems import REFUSALS, ConfigError
from dsgd.config.topology import blame_topology, read_topology
from topologies.files import is_file_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def named_topology(
    name: str, n: int | None, weights: str, knobs: Sequence[str], seed: int, allow_disconnected: bool
) -> topologies.Topology:
    """The topology of these arguments, knobs as KEY=VALUE; ConfigError for what cannot be."""
    own, problems = with_overrides({}, knobs)
    if n is None and not is_file_name(name):
        problems.append("-n: missing; give the number of nodes")
    if problems:
        raise ConfigError(*problems)
    graph = {**own, "name": name, "seed": seed}
    given: dict[str, Any] = {"graph": graph, "weights": weights, "allow_disconnected": allow_disconnected}
    schedule: Any = read_topology(given | ({} if n is None else {"n": n}), "topology")
    topology: topologies.Topology = schedule.topology
    return topology


def facts(topology: topologies.Topology) -> dict[str, Any]:
    """What is known of the graph and its mixing matrix; ConfigError where they do not mix."""
    try:
        return topologies.facts(topology)
    except REFUSALS as error:
        raise blame_topology(error, "topology") from None


def draw(topology: topologies.Topology, path: Path) -> None:
    """Draws the graph into an SVG file, and says so on stderr."""
    from dsgd.graph_drawings import draw_graph

    check_drawing(path, "--plot")
    try:
        figure = draw_graph(topology.graph_object(), f"{topology.graph}, n = {topology.n}", kind=topology.graph)
    except REFUSALS as error:
        raise ConfigError(f"--plot: {error}") from None
    write_drawing(figure, path, "--plot")
