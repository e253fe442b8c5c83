"""The kinds of W_t: their dense form is the formula of their docstring, and messages are its off-diagonal entries."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array

from topologies import Dense, Identity, Mean, Permutation, Sparse

ROTATION = [[0.25, 0.75, 0], [0, 0.25, 0.75], [0.75, 0, 0.25]]
KINDS = [
    (Identity(3), np.eye(3)),
    (Mean(3), np.full((3, 3), 1 / 3)),
    (Permutation((1, 2, 0), 0.25), ROTATION),
    (Permutation(np.array([1, 0, 2])), [[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]]),
    (Permutation((1, 2, 0), 0), [[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    (Permutation((1, 2, 0), 1), np.eye(3)),
    (Sparse(csr_array(np.array(ROTATION))), ROTATION),
    (Dense(np.array(ROTATION)), ROTATION),
    (Dense(np.array([[0.0, 2, 3]])), [[0, 2, 3]]),
]


@pytest.mark.parametrize(("W", "dense"), KINDS)
def test_a_kind_is_its_dense_form(W, dense):
    dense = np.array(dense, dtype=float)
    np.testing.assert_allclose(W.toarray(), dense, atol=1e-15)
    np.testing.assert_allclose(W.sparse().toarray(), dense, atol=1e-15)
    assert W.shape == dense.shape
    assert W.n == dense.shape[1]
    assert W.messages == np.count_nonzero(dense * (1 - np.eye(*dense.shape)))
    assert type(W.messages) is int


@pytest.mark.parametrize(("W", "dense"), KINDS)
def test_a_kind_pickles_and_hashes(W, dense):
    hash(W)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(W)).toarray(), W.toarray())


def test_explicit_zeros_are_no_messages():
    assert Sparse(csr_array((np.zeros(2), ([0, 1], [1, 0])), shape=(2, 2))).messages == 0


@pytest.mark.parametrize("partner", [(0, 0), (1, 2), (0, -1), [[0, 1]]])
def test_a_partner_is_a_permutation(partner):
    with pytest.raises(ValueError, match=r"each of 0\.\.n-1 exactly once"):
        Permutation(partner)


def test_self_weight_is_a_weight():
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        Permutation((1, 0), 1.5)
