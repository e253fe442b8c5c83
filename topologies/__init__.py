"""Communication graphs of decentralized learning: mixing matrices W, schedules W_t and what their spectrum promises.

>>> from topologies import Topology, facts
>>> round(facts(Topology("ring", 16))["spectral_gap"], 4)
0.0507

A library of its own on networkx, numpy and scipy; a `dsgd` run is built on it, and it knows nothing of `dsgd`. A name
is imported when first used, so that what needs only a light module does not wait for networkx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from topologies.arguments import KnobError as KnobError
    from topologies.files import graph_from_file as graph_from_file
    from topologies.files import matrix_from_file as matrix_from_file
    from topologies.graphs import GRAPHS as GRAPHS
    from topologies.graphs import build_graph as build_graph
    from topologies.graphs import knobs_of as knobs_of
    from topologies.matrices import Dense as Dense
    from topologies.matrices import Identity as Identity
    from topologies.matrices import Mean as Mean
    from topologies.matrices import MixingMatrix as MixingMatrix
    from topologies.matrices import Permutation as Permutation
    from topologies.matrices import Sparse as Sparse
    from topologies.matrices import isolated as isolated
    from topologies.partition import blocks as blocks
    from topologies.partition import crossings as crossings
    from topologies.schedules import SCHEDULES as SCHEDULES
    from topologies.schedules import OnePeerExponential as OnePeerExponential
    from topologies.schedules import Periodic as Periodic
    from topologies.schedules import Permuted as Permuted
    from topologies.schedules import RandomMatching as RandomMatching
    from topologies.schedules import Schedule as Schedule
    from topologies.schedules import Static as Static
    from topologies.spectral import effective_neighbours as effective_neighbours
    from topologies.spectral import facts as facts
    from topologies.spectral import mixing_time as mixing_time
    from topologies.spectral import slem as slem
    from topologies.spectral import spectral_gap as spectral_gap
    from topologies.spectral import spectrum as spectrum
    from topologies.spectral import stationary_consensus as stationary_consensus
    from topologies.stochasticity import check_mixing_matrix as check_mixing_matrix
    from topologies.topology import Topology as Topology
    from topologies.weights import WEIGHTS as WEIGHTS

_MODULES = {
    "arguments": ("KnobError",),
    "files": ("graph_from_file", "matrix_from_file"),
    "graphs": ("GRAPHS", "build_graph", "knobs_of"),
    "matrices": ("Dense", "Identity", "Mean", "MixingMatrix", "Permutation", "Sparse", "isolated"),
    "partition": ("blocks", "crossings"),
    "schedules": ("SCHEDULES", "OnePeerExponential", "Periodic", "Permuted", "RandomMatching", "Schedule", "Static"),
    "spectral": (
        "effective_neighbours",
        "facts",
        "mixing_time",
        "slem",
        "spectral_gap",
        "spectrum",
        "stationary_consensus",
    ),
    "stochasticity": ("check_mixing_matrix",),
    "topology": ("Topology",),
    "weights": ("WEIGHTS",),
}
_PUBLIC = {name: f"topologies.{module}" for module, names in _MODULES.items() for name in names}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """The public name, from its module."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'topologies' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
