"""The check of a mixing matrix names what is wrong, and where."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from topologies import Dense, Mean, Permutation, Sparse, build_graph, check_mixing_matrix

PAIR = np.full((2, 2), 0.5)
TWO_PAIRS = np.kron(np.eye(2), PAIR)


def with_entry(i, j, value):
    W = np.full((3, 3), 1 / 3)
    W[i, j] = value
    return W


@pytest.mark.parametrize(
    ("W", "sentence"),
    [
        (np.ones((2, 3)), r"must be square, \(n, n\) for n replicas, not of shape \(2, 3\)"),
        (np.ones(4), r"not of shape \(4,\)"),
        (np.zeros((0, 0)), r"not of shape \(0, 0\)"),
        (with_entry(1, 2, np.nan), r"W\[1, 2\] is nan: every entry"),
        (with_entry(2, 0, np.inf), r"W\[2, 0\] is inf: every entry"),
        (with_entry(1, 2, 0.5), r"not doubly stochastic: row 1 sums to 1\.166666667, and must sum to 1"),
        (np.array([[0.5, 0.5], [0.4, 0.6]]), r"column 1 sums to 1\.1, and"),
        (np.array([[1 + 0j]]), "real numbers, not complex128"),
        (np.array([["a"]]), "real numbers, not <U1"),
        (TWO_PAIRS, r"splits into the components \{0, 1\}, \{2, 3\}$"),
        (np.kron(np.eye(2), np.full((6, 6), 1 / 6)), r"\{0, 1, 2, 3, \.\.\.\}, \{6, 7, 8, 9, \.\.\.\}$"),
        (np.eye(9), r"\{0\}, \{1\}, \{2\}, \{3\} and 5 more$"),
        (1 - np.eye(2), "second largest eigenvalue modulus is 1, and must be below 1"),
        (np.array([[3.0, -2], [-2, 3]]), "eigenvalue modulus is 5, and must be below 1"),
    ],
)
def test_one_sentence_says_what_is_wrong(W, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        check_mixing_matrix(W)
    assert "\n" not in str(caught.value)


def test_an_entry_off_the_edges_is_named():
    with pytest.raises(ValueError, match=r"W\[0, 2\] is 0\.25, and the graph has no edge from 2 to 0"):
        check_mixing_matrix(Mean(4), build_graph("ring", 4))


def test_the_direction_of_an_edge_counts():
    forward = Permutation((np.arange(8) + 1) % 8)
    check_mixing_matrix(forward, build_graph("exponential", 8))
    with pytest.raises(ValueError, match="no edge from 7 to 0"):
        check_mixing_matrix(forward.toarray().T, build_graph("exponential", 8))


def test_a_matrix_of_another_size_than_the_graph():
    with pytest.raises(ValueError, match="n = 2 replicas and the graph has 5"):
        check_mixing_matrix(PAIR, build_graph("ring", 5))


@pytest.mark.parametrize("form", [np.asarray, csr_array, lambda W: Sparse(csr_array(W)), Dense])
def test_arrays_sparse_arrays_and_values_are_checked_alike(form):
    check_mixing_matrix(form(PAIR))
    with pytest.raises(ValueError, match="row 1 sums to"):
        check_mixing_matrix(form(with_entry(1, 2, 0.5)))


def test_negative_entries_are_allowed():
    check_mixing_matrix(np.array([[0.6, 0.6, -0.2], [0.6, -0.2, 0.6], [-0.2, 0.6, 0.6]]))


def test_disconnected_is_fine_where_it_is_allowed():
    check_mixing_matrix(TWO_PAIRS, allow_disconnected=True)
