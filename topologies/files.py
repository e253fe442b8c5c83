"""A graph from .edgelist, .graphml, .npy or .json, and a mixing matrix from .npy or .json; nothing is unpickled.

Whatever the nodes are called in the file, they become 0..n-1 in sorted order (as numbers if all are whole numbers, else
as text). Self-loops and parallel edges are dropped, edge weights ignored. An edge a -> b means a sends to b.
Every error is one sentence with the file's name: FileNotFoundError for a missing file, else ValueError.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from topologies.sizes import MAX_NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from os import PathLike

MOST_BYTES = 64 * 2**20


def graph_from_file(path: str | PathLike[str]) -> nx.Graph[int]:
    """The graph in the file, a DiGraph where the file says directed (or its adjacency matrix is not symmetric)."""
    file = _readable(path, GRAPH_FORMATS)
    graph = GRAPH_FORMATS[file.suffix](file)
    if not 1 <= graph.number_of_nodes() <= MAX_NODES:
        raise ValueError(f"{file} holds a graph of {graph.number_of_nodes()} nodes: expected 1 to {MAX_NODES}")
    return _numbered(graph)


def matrix_from_file(path: str | PathLike[str]) -> csr_array:
    """The matrix in the file, shape (n, n), float64: a two-dimensional .npy array or a .json list of rows.

    Only its shape and numbers are checked here; `check_mixing_matrix` checks that it averages.
    """
    file = _readable(path, MATRIX_FORMATS)
    return csr_array(_square(MATRIX_FORMATS[file.suffix](file), file))


def is_file_name(text: object) -> bool:
    """Whether `text` ends like a graph or matrix file (so that no graph or rule can have such a name)."""
    return isinstance(text, str) and Path(text).suffix in GRAPH_FORMATS


def version(path: Path) -> tuple[int, int] | None:
    """When the file was last written, in nanoseconds, and its size in bytes; None where there is none to read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size


def _readable(path: str | PathLike[str], formats: Iterable[str]) -> Path:
    file = Path(path)
    if file.suffix not in formats:
        raise ValueError(f"{file} must end in one of {', '.join(formats)}")
    if not file.exists():
        raise FileNotFoundError(f"no such file: {file}")
    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} is larger than {MOST_BYTES // 2**20} MiB; a large graph fits as an .edgelist")
    return file


def _edgelist(file: Path) -> nx.Graph[Any]:
    graph: nx.Graph[Any] = nx.Graph()
    for number, line in enumerate(_text(file).splitlines(), start=1):
        fields = line.split("#")[0].split()
        if len(fields) == 1 or any("," in name for name in fields[:2]):
            raise ValueError(
                f"{file} line {number}: expected an edge, two node names with a space and no comma between"
            )
        if fields:
            graph.add_edge(*fields[:2])
    return graph


def _graphml(file: Path) -> nx.Graph[Any]:
    try:
        graph = nx.read_graphml(file)
    except Exception as error:  # an XML parser and networkx raise half a dozen kinds on a broken file
        raise ValueError(f"{file} is not GraphML: {_first_line(error)}") from None
    return nx.DiGraph(graph) if graph.is_directed() else nx.Graph(graph)


def _adjacency(file: Path) -> nx.Graph[Any]:
    entries = _square(_array(file), file)
    adjacency = entries != 0
    if (entries != adjacency).any():
        i, j = np.argwhere(entries != adjacency)[0]
        raise ValueError(
            f"{file} holds {entries[i, j]:g} at [{i}, {j}]: a graph's adjacency matrix holds only 0 and 1; a mixing "
            f"matrix goes to weights"
        )
    graph: nx.Graph[Any] = nx.Graph() if (adjacency == adjacency.T).all() else nx.DiGraph()
    graph.add_nodes_from(range(len(adjacency)))
    graph.add_edges_from((int(head), int(tail)) for head, tail in np.argwhere(adjacency))
    return graph


def _json_graph(file: Path) -> nx.Graph[Any]:
    data = _json(file)
    try:
        graph: nx.Graph[Any] = nx.DiGraph() if data.get("directed", False) else nx.Graph()
        if "nodes" in data:
            graph.add_nodes_from(_name(node["id"]) for node in data["nodes"])
            edges = [(edge["source"], edge["target"]) for edge in data["edges" if "edges" in data else "links"]]
        else:
            graph.add_nodes_from(range(_node_count(data.get("n", 0))))
            edges = [(head, tail) for head, tail in data["edges"]]
        named = graph.number_of_nodes()
        graph.add_edges_from((_name(head), _name(tail)) for head, tail in edges)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ValueError(
            f'{file} is not a graph: expected {{"n": 3, "edges": [[0, 1], [1, 2]]}} or networkx node-link data; '
            f"a mixing matrix goes to weights"
        ) from None
    if named and graph.number_of_nodes() != named:
        raise ValueError(f"{file} has an edge to a node that is not among its {named} nodes")
    return graph


def _node_count(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= MAX_NODES:
        raise ValueError
    return n


def _name(node: object) -> str | int:
    if isinstance(node, bool) or not isinstance(node, str | int):
        raise TypeError
    return node


def _array(file: Path) -> np.ndarray:
    try:
        # Mapped first: a header that promises more than the file holds is then refused before memory is taken.
        return np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    except Exception:  # a header is read as Python's literals, which fail in half a dozen ways
        raise ValueError(f"{file} is not a .npy array of numbers, as numpy.save writes it") from None


def _json(file: Path) -> Any:
    try:
        return json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {_first_line(error)}") from None
    except (RecursionError, ValueError):
        raise ValueError(f"{file} is not JSON of a reasonable depth and size") from None


def _rows(file: Path) -> np.ndarray:
    rows = _json(file)
    try:
        return np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{file} must hold a list of rows of numbers, all of one length") from None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None


def _square(array: np.ndarray, file: Path) -> np.ndarray:
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(f"{file} holds an array of shape {array.shape}: expected a square matrix, (n, n)")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{file} holds an array of {array.dtype}: expected real numbers")
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        i, j = np.argwhere(~np.isfinite(numbers))[0]
        raise ValueError(f"{file} holds {numbers[i, j]} at [{i}, {j}]: expected finite numbers")
    return numbers


def _numbered(graph: nx.Graph[Any]) -> nx.Graph[int]:
    """A copy with nodes 0..n-1 in sorted order, structure only."""
    number = {node: index for index, node in enumerate(_in_order(graph.nodes))}
    copy: nx.Graph[int] = nx.DiGraph() if graph.is_directed() else nx.Graph()
    copy.add_nodes_from(range(len(number)))
    copy.add_edges_from((number[head], number[tail]) for head, tail in graph.edges if head != tail)
    return copy


def _in_order(nodes: Iterable[Hashable]) -> list[Hashable]:
    names = list(nodes)
    try:
        return sorted(names, key=lambda name: int(str(name)))
    except ValueError:
        return sorted(names, key=str)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


GRAPH_FORMATS: dict[str, Callable[[Path], nx.Graph[Any]]] = {
    ".edgelist": _edgelist,
    ".graphml": _graphml,
    ".npy": _adjacency,
    ".json": _json_graph,
}
MATRIX_FORMATS: dict[str, Callable[[Path], np.ndarray]] = {".npy": _array, ".json": _rows}
