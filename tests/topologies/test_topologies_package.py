"""The package is a floor of its own: quick to import, without torch, dsgd or cvxpy, and its example runs."""

import doctest
import subprocess
import sys

import pytest

import topologies


def test_it_imports_neither_torch_nor_dsgd_nor_a_solver():
    heavy = {"torch", "dsgd", "cvxpy", "scipy.sparse.linalg", "scipy.linalg", "matplotlib"}
    assert loaded_by("from topologies import *", heavy) == ""


def test_a_light_module_waits_for_no_heavy_one():
    assert loaded_by("import topologies.randomness, topologies.sizes", {"networkx", "scipy"}) == ""


def loaded_by(statement, modules):
    code = f"import sys\n{statement}\nprint(*{modules} & set(sys.modules))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="module 'topologies' has no attribute 'fact'"):
        topologies.fact  # noqa: B018  # the access itself is what is tested


def test_the_example_runs():
    assert doctest.testmod(topologies) == (0, 2)


def test_all_names_exist_and_none_is_a_module():
    modules = {name.rpartition(".")[2] for name in sys.modules if name.startswith("topologies.")}
    assert not modules & set(topologies.__all__)
    assert all(hasattr(topologies, name) for name in topologies.__all__)
