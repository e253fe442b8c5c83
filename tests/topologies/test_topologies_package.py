"""The package's public names are there, and its example runs."""

import doctest
import sys

import pytest

import topologies


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="module 'topologies' has no attribute 'fact'"):
        topologies.fact  # noqa: B018  # the access itself is what is tested


def test_the_example_runs():
    assert doctest.testmod(topologies) == (0, 2)


def test_all_names_exist_and_none_is_a_module():
    modules = {name.rpartition(".")[2] for name in sys.modules if name.startswith("topologies.")}
    assert not modules & set(topologies.__all__)
    assert all(hasattr(topologies, name) for name in topologies.__all__)
