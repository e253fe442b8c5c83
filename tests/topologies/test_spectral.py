"""Closed forms, Lyapunov equations and brute-force recursions agree, and with the golden table of Zhu et al."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov
from scipy.sparse import coo_array, csr_array

from topologies import (
    WEIGHTS,
    Dense,
    Identity,
    Mean,
    Permutation,
    Sparse,
    Topology,
    build_graph,
    effective_neighbours,
    facts,
    mixing_time,
    slem,
    spectral_gap,
    spectrum,
    stationary_consensus,
)
from topologies.spectral import lyapunov

GOLDEN = [  # m = 16; |lambda_2|, gap, S of consensus (AWC), S of adapt_then_combine (ATC)
    ("ring", 0.9493, 0.0507, 2.410, 1.472),
    ("grid", 0.8686, 0.1314, 1.494, 0.556),
    ("exponential", 0.6000, 0.4000, 1.119, 0.181),
    ("complete", 0, 1, 0.9375, 0),
]
RING8 = [[1 / 3 if (i - j) % 8 in (0, 1, 7) else 0 for j in range(8)] for i in range(8)]


def skewed(n=7, seed=0):
    """A doubly stochastic matrix that is neither symmetric nor normal."""
    rng = np.random.default_rng(seed)
    permutations = [np.eye(n)[rng.permutation(n)] for _ in range(4)]
    return sum(w * P for w, P in zip([0.4, 0.3, 0.2, 0.1], permutations, strict=True)) / 2 + np.eye(n) / 2


@pytest.mark.parametrize(("graph", "second", "gap", "consensus", "combined"), GOLDEN)
def test_golden_table(graph, second, gap, consensus, combined):
    W = Topology(graph, 16).matrix()
    assert slem(W) == pytest.approx(second, abs=5.1e-5)
    assert spectral_gap(W) == pytest.approx(gap, abs=5.1e-5)
    assert stationary_consensus(W, "consensus") == pytest.approx(consensus, abs=5.1e-4)
    assert stationary_consensus(W, "adapt_then_combine") == pytest.approx(combined, abs=5.1e-4)
    assert stationary_consensus(W, "combine_then_adapt") == stationary_consensus(W, "consensus")


@pytest.mark.parametrize(("n", "consensus", "combined"), [(8, 1.386, 0.511), (32, 4.421, 3.453), (64, 8.427, 7.443)])
def test_golden_rings(n, consensus, combined):
    W = Topology("ring", n).matrix()
    assert stationary_consensus(W, "consensus") == pytest.approx(consensus, abs=5.1e-4)
    assert stationary_consensus(W, "adapt_then_combine") == pytest.approx(combined, abs=5.1e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 16, 601])
def test_the_complete_graph_is_exact(n):
    W = Mean(n)
    assert (slem(W), spectral_gap(W)) == (0, 1)
    assert stationary_consensus(W, "consensus") == 1 - 1 / n
    assert stationary_consensus(W, "adapt_then_combine") == 0
    assert effective_neighbours(W) == n


@pytest.mark.parametrize("n", [2, 5, 16, 700])
def test_the_complete_graph_is_recognised_in_any_form(n):
    W = np.full((n, n), 1 / n)
    assert slem(W) == 0
    assert stationary_consensus(W) == pytest.approx(1 - 1 / n, rel=1e-12)
    assert stationary_consensus(W, "adapt_then_combine") == 0
    assert effective_neighbours(W) == pytest.approx(n, rel=1e-10)


@given(n=st.integers(3, 80))
@settings(max_examples=25, deadline=None)
def test_ring_in_closed_form(n):
    W = Topology("ring", n).matrix()
    eigenvalues = (1 + 2 * np.cos(2 * np.pi * np.arange(n) / n)) / 3
    np.testing.assert_allclose(np.sort(spectrum(W).real), np.sort(eigenvalues), atol=1e-12)
    assert slem(W) == pytest.approx(np.abs(eigenvalues[1:]).max(), abs=1e-12)


@pytest.mark.parametrize(
    ("graph", "n", "second"),
    [
        ("hypercube", 32, 4 / 6),
        ("star", 9, 8 / 9),
        ("path", 12, 1 - 4 / 3 * math.sin(math.pi / 24) ** 2),
        ("torus", 16, 3 / 5),
        ("exponential", 32, 2 / 3),
        ("ring", 2, 0),
    ],
)
def test_slem_in_closed_form(graph, n, second):
    assert slem(Topology(graph, n).matrix()) == pytest.approx(second, abs=1e-12)


@pytest.mark.parametrize("form", [np.array, csr_array, coo_array, Dense, lambda a: Sparse(csr_array(a))])
def test_every_form_of_a_matrix_is_understood(form):
    W = form(np.array(RING8))
    expected = (1 + math.sqrt(2)) / 3
    assert slem(W) == pytest.approx(expected, abs=1e-12)
    assert spectral_gap(W) == pytest.approx(1 - expected, abs=1e-12)
    assert stationary_consensus(W) == pytest.approx(1.3861607, abs=1e-6)
    assert len(spectrum(W)) == 8


def test_one_peer_permutation_spectrum():
    assert slem(Permutation((np.arange(5) + 1) % 5)) == pytest.approx(math.cos(math.pi / 5))


@pytest.mark.parametrize("W", [Identity(4), np.kron(np.eye(2), np.full((2, 2), 0.5)), 1 - np.eye(2)])
def test_what_never_agrees(W):
    assert slem(W) == 1
    assert spectral_gap(W) == 0
    assert stationary_consensus(W) == math.inf


@pytest.mark.parametrize(("second", "steps"), [(0.5, 2), (0.25, 1), (0.9493, 27), (0.999, 1386), (1e-13, 1), (0.0, 1)])
def test_mixing_time(second, steps):
    assert mixing_time(second) == steps
    assert type(mixing_time(second)) is int


def test_no_mixing_time_where_nothing_mixes():
    assert mixing_time(1.0) is None
    assert mixing_time(1.5) is None


MATRICES = {"ring": np.array(RING8), "exponential": Topology("exponential", 8).matrix().toarray(), "skewed": skewed()}


@pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)
@pytest.mark.parametrize("order", ["consensus", "adapt_then_combine", "combine_then_adapt"])
def test_stationary_consensus_is_the_limit_of_the_recursion(W, order):
    """Second moments propagated step by step through the algorithm itself, mean included: no centring, no formula."""
    n = len(W)
    centre = np.eye(n) - 1 / n
    moments = np.zeros((n, n))
    for _ in range(400):
        noise = W @ W.T if order == "adapt_then_combine" else np.eye(n)
        moments = W @ moments @ W.T + noise
    assert stationary_consensus(W, order) == pytest.approx(np.trace(centre @ moments) / n, rel=1e-9)


def test_stationary_consensus_of_sampled_replicas():
    W, rng = np.array(RING8), np.random.default_rng(1)
    w = np.zeros((8, 4000))
    for _ in range(200):
        w = W @ w - rng.standard_normal(w.shape)
    assert w.var(axis=0).mean() == pytest.approx(stationary_consensus(W), rel=0.02)


def test_the_closed_form_of_a_normal_matrix_meets_lyapunov():
    W = MATRICES["exponential"]
    squares = np.sort(np.abs(spectrum(W)) ** 2)[:-1]
    assert stationary_consensus(W) == pytest.approx(np.sum(1 / (1 - squares)) / 8, rel=1e-10)
    assert stationary_consensus(W, "adapt_then_combine") == pytest.approx(
        np.sum(squares / (1 - squares)) / 8, rel=1e-10
    )
    squares, gamma = np.append(squares, 1), 0.9
    variance = np.mean(squares / (1 - gamma * squares))
    assert effective_neighbours(W, gamma) == pytest.approx(1 / ((1 - gamma) * variance), rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_lyapunov_agrees_with_scipy(seed):
    A = skewed(seed=seed) - 1 / 7
    B = np.diag(np.arange(1.0, 8))
    np.testing.assert_allclose(lyapunov(A, B), solve_discrete_lyapunov(A, B), rtol=1e-9)


@pytest.mark.parametrize("W", MATRICES.values(), ids=MATRICES)
def test_effective_neighbours_is_the_variance_of_the_random_walk(W):
    gamma, n = 0.9, len(W)
    variance = np.zeros((n, n))
    for _ in range(400):
        variance = W @ (gamma * variance + np.eye(n)) @ W.T
    expected = 1 / ((1 - gamma) * np.trace(variance) / n)
    assert effective_neighbours(W, gamma) == pytest.approx(expected, rel=1e-9)


def test_effective_neighbours_lies_between_alone_and_all():
    assert effective_neighbours(Identity(6)) == 1
    assert effective_neighbours(np.eye(6)) == pytest.approx(1)
    assert 1 < effective_neighbours(np.array(RING8), 0.5) < effective_neighbours(np.array(RING8), 0.99) < 8


def test_gamma_and_order_are_checked():
    with pytest.raises(ValueError, match=r"gamma must be at least 0 and below 1, not 1\.0"):
        effective_neighbours(Identity(3), 1.0)
    with pytest.raises(ValueError, match=r"unknown order 'consensu' \(did you mean 'consensus'\?\)"):
        stationary_consensus(Identity(3), "consensu")


def test_the_full_spectrum_has_a_limit():
    with pytest.raises(ValueError, match="for at most 4096 replicas, and n = 5000"):
        spectrum(Identity(5000))


def test_facts_of_a_ring():
    described = facts(Topology("ring", 16))
    assert list(described) == [
        "n",
        "edges",
        "weights",
        "spectral_gap",
        "slem",
        "mixing_time",
        "effective_neighbours",
        "gamma",
        "stationary_consensus",
    ]
    assert described["n"] == described["edges"] == 16
    assert described["weights"] == "metropolis_hastings"
    assert described["spectral_gap"] + described["slem"] == 1
    assert described["mixing_time"] == 27
    assert described["gamma"] == 0.99
    assert described["effective_neighbours"] == pytest.approx(effective_neighbours(Topology("ring", 16).matrix()))
    assert described["stationary_consensus"] == {
        "consensus": pytest.approx(2.4096, abs=1e-4),
        "adapt_then_combine": pytest.approx(1.4721, abs=1e-4),
    }


@pytest.mark.parametrize("graph", ["ring", "star", "complete", "exponential"])
def test_facts_of_one_node(graph):
    described = facts(Topology(graph, 1))
    assert (described["n"], described["edges"], described["spectral_gap"], described["slem"]) == (1, 0, 1, 0)
    assert described["mixing_time"] == 0
    assert described["effective_neighbours"] == 1
    assert described["stationary_consensus"] == {"consensus": 0, "adapt_then_combine": 0}


def test_facts_of_a_disconnected_graph_are_none_and_never_infinite(tmp_path):
    (tmp_path / "pairs.edgelist").write_text("0 1\n2 3\n")
    described = facts(Topology.from_file(tmp_path / "pairs.edgelist", allow_disconnected=True))
    assert (described["spectral_gap"], described["slem"], described["mixing_time"]) == (0, 1, None)
    assert described["stationary_consensus"] == {"consensus": None, "adapt_then_combine": None}
    assert described["effective_neighbours"] == pytest.approx(2)


def test_facts_of_a_graph_and_a_matrix():
    graph = build_graph("ring", 8)
    assert facts(graph)["weights"] == "metropolis_hastings"
    assert facts(graph) == facts(Topology("ring", 8))
    lazy = facts(graph, WEIGHTS["lazy"](graph))
    assert lazy["weights"] == "given"
    assert lazy["slem"] == pytest.approx((1 + slem(np.array(RING8))) / 2)


def test_facts_count_the_edges_of_digraphs_one_way():
    assert facts(Topology("exponential", 16))["edges"] == 64
    assert facts(nx.DiGraph([(0, 1), (1, 2), (2, 0)]))["edges"] == 3
