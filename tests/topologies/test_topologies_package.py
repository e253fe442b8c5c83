"""The package is a floor of its own: quick to import, without torch, dsgd or cvxpy, and its example runs."""

import doctest
import subprocess
import sys

import topologies


def test_it_imports_neither_torch_nor_dsgd_nor_a_solver():
    heavy = {"torch", "dsgd", "cvxpy", "scipy.sparse.linalg", "scipy.linalg", "matplotlib"}
    code = f"import topologies, sys; print(*{heavy} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == ""


def test_the_example_runs():
    assert doctest.testmod(topologies) == (0, 2)


def test_all_names_exist_and_none_is_a_module():
    modules = {name.rpartition(".")[2] for name in sys.modules if name.startswith("topologies.")}
    assert not modules & set(topologies.__all__)
    assert all(hasattr(topologies, name) for name in topologies.__all__)
