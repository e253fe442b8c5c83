"""Communication graphs of decentralized learning: mixing matrices W, schedules W_t and what their spectrum promises.

>>> from topologies import Topology, facts
>>> round(facts(Topology("ring", 16))["spectral_gap"], 4)
0.0507

A library of its own on networkx, numpy and scipy; a `dsgd` run is built on it, and it knows nothing of `dsgd`.
"""

from topologies.arguments import KnobError
from topologies.files import graph_from_file, matrix_from_file
from topologies.graphs import GRAPHS, build_graph, knobs_of
from topologies.matrices import Dense, Identity, Mean, MixingMatrix, Permutation, Sparse
from topologies.schedules import (
    SCHEDULES,
    OnePeerExponential,
    Periodic,
    Permuted,
    RandomMatching,
    Schedule,
    Static,
)
from topologies.spectral import (
    effective_neighbours,
    facts,
    mixing_time,
    slem,
    spectral_gap,
    spectrum,
    stationary_consensus,
)
from topologies.stochasticity import check_mixing_matrix
from topologies.topology import Topology
from topologies.weights import WEIGHTS

__all__ = [
    "GRAPHS",
    "SCHEDULES",
    "WEIGHTS",
    "Dense",
    "Identity",
    "KnobError",
    "Mean",
    "MixingMatrix",
    "OnePeerExponential",
    "Periodic",
    "Permutation",
    "Permuted",
    "RandomMatching",
    "Schedule",
    "Sparse",
    "Static",
    "Topology",
    "build_graph",
    "check_mixing_matrix",
    "effective_neighbours",
    "facts",
    "graph_from_file",
    "knobs_of",
    "matrix_from_file",
    "mixing_time",
    "slem",
    "spectral_gap",
    "spectrum",
    "stationary_consensus",
]
