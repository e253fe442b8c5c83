"""Every schedule: W_t is doubly stochastic, a function of the step alone, and repeats with the stated period."""

import pickle

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topologies import (
    SCHEDULES,
    Identity,
    Mean,
    OnePeerExponential,
    Periodic,
    Permutation,
    Permuted,
    RandomMatching,
    Static,
    Topology,
    build_graph,
    check_mixing_matrix,
    spectrum,
)
from topologies.schedules import maximal_matching

GRID = Topology("grid", 12)
EXAMPLES = [
    Static(GRID),
    OnePeerExponential(8),
    OnePeerExponential(11),
    OnePeerExponential(1),
    RandomMatching(GRID, seed=3),
    RandomMatching(Topology("complete", 9), seed=3),
    RandomMatching(Topology("ring", 1)),
    Permuted(GRID, seed=3),
    Permuted(Topology("exponential", 10)),
    Periodic(Static(GRID), 4),
    Periodic(OnePeerExponential(8), 3),
    Periodic(RandomMatching(GRID), 2),
]


def test_every_schedule_of_the_table_is_tested():
    assert {type(schedule) for schedule in EXAMPLES} == set(SCHEDULES.values())


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
@given(step=st.integers(0, 10**9))
@settings(max_examples=15, deadline=None)
def test_laws_of_a_schedule(schedule, step):
    W = schedule(step)
    assert W.shape == (schedule.n, schedule.n)
    check_mixing_matrix(W, allow_disconnected=True)
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    copy(step + 1)
    np.testing.assert_array_equal(copy(step).toarray(), W.toarray())
    if schedule.period is not None:
        np.testing.assert_array_equal(schedule(step + schedule.period).toarray(), W.toarray())


@pytest.mark.parametrize("n", [1, 2, 8, 16, 64])
def test_one_peer_exponential_averages_exactly_in_log_n_steps(n):
    schedule = OnePeerExponential(n)
    product = np.eye(n)
    for step in range(5, 5 + schedule.period):
        product = schedule(step).toarray() @ product
    np.testing.assert_allclose(product, 1 / n, atol=1e-15)
    assert schedule.period == max(1, int(np.log2(n)))


def test_one_peer_exponential_needs_all_its_steps():
    schedule = OnePeerExponential(16)
    product = schedule(2).toarray() @ schedule(1).toarray() @ schedule(0).toarray()
    assert np.abs(product - 1 / 16).max() > 0.05


def test_one_peer_exponential_uses_the_edges_of_the_exponential_graph():
    for step in range(4):
        check_mixing_matrix(OnePeerExponential(11)(step), build_graph("exponential", 11), allow_disconnected=True)
    assert OnePeerExponential(11)(2).toarray()[9, 2] == 0.5


@pytest.mark.parametrize("topology", [GRID, Topology("star", 7), Topology("complete", 9), Topology("complete", 8)])
def test_random_matching_is_a_maximal_matching_of_the_edges(topology):
    graph = topology.graph_object()
    for step in range(20):
        W = RandomMatching(topology, seed=1)(step)
        matched = {(i, int(j)) for i, j in enumerate(W.partner) if i < j}
        assert isinstance(W, Permutation)
        assert nx.is_maximal_matching(graph, matched)
        np.testing.assert_array_equal(W.partner[W.partner], np.arange(topology.n))
        np.testing.assert_array_equal(W.toarray(), W.toarray().T)


def test_random_matching_is_fresh_each_step_and_keyed_by_its_seed():
    partners = [
        tuple(RandomMatching(Topology("complete", 20), seed)(step).partner) for seed in (0, 1) for step in (0, 1)
    ]
    assert len(set(partners)) == 4


def test_random_matching_of_the_complete_graph_meets_everybody_alike():
    schedule = RandomMatching(Topology("complete", 6))
    met = sum(schedule(step).toarray() for step in range(3000)) / 3000
    np.testing.assert_allclose(met, np.where(np.eye(6), 0.5, 0.1), atol=0.02)


@given(n=st.integers(2, 30), p=st.floats(0.05, 1), seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_matching_in_rounds_is_the_greedy_matching(n, p, seed):
    edges = np.array(nx.fast_gnp_random_graph(n, p, seed=seed).edges, dtype=int).reshape(-1, 2)
    edges = np.random.default_rng(seed).permutation(edges)
    taken, greedy = set(), set()
    for i, j in edges.tolist():
        if not {i, j} & taken:
            taken |= {i, j}
            greedy.add((i, j))
    assert {tuple(pair) for pair in maximal_matching(edges, n).tolist()} == greedy


def test_random_matching_refuses_a_digraph():
    with pytest.raises(ValueError, match="pairs replicas both ways, and the graph exponential is directed"):
        RandomMatching(Topology("exponential", 8))(0)


@pytest.mark.parametrize("topology", [GRID, Topology("exponential", 10)])
def test_permuted_keeps_the_spectrum_and_the_diagonal(topology):
    W = topology.matrix().toarray()
    first, second = (Permuted(topology, seed=2)(step).toarray() for step in (0, 1))
    assert (first != second).any()
    for shuffled in (first, second):
        np.testing.assert_allclose(np.sort(np.diag(shuffled)), np.sort(np.diag(W)), atol=1e-15)
        distances = np.abs(spectrum(shuffled)[:, None] - spectrum(W)[None, :])
        assert distances.min(axis=0).max() < 1e-9
        assert distances.min(axis=1).max() < 1e-9
        np.testing.assert_allclose(np.trace(shuffled @ shuffled), np.trace(W @ W), atol=1e-12)


def test_permuted_mean_is_the_mean():
    assert Permuted(Topology("complete", 5))(7) == Mean(5)


def test_permuted_ring_contracts_like_a_random_relabelling():
    """dsgd-sam.md 1.6, third column: S_AWC = 1.318, from E tr(W Pi W^T) = (||W||_F^2 - 1) / (m - 1) a step."""
    schedule = Permuted(Topology("ring", 16))
    X, total = np.eye(16) - 1 / 16, 0.0
    for step in range(4000):
        W = schedule(step).toarray()
        X = W @ X @ W.T + np.eye(16) - 1 / 16
        total += np.trace(X) / 16
    assert total / 4000 == pytest.approx(1.318, abs=0.005)


def test_periodic_gossips_at_the_end_of_each_period():
    schedule = Periodic(OnePeerExponential(8), 3)
    kinds = [type(schedule(step)) for step in range(6)]
    assert kinds == [Identity, Identity, Permutation] * 2
    assert schedule.period == 9
    for turn in range(3):
        np.testing.assert_array_equal(schedule(3 * turn + 2).partner, OnePeerExponential(8)(turn).partner)
    assert Periodic(RandomMatching(GRID), 2).period is None


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Periodic(Static(GRID), 0), "every must be a whole number of at least 1, not 0"),
        (lambda: Periodic(Static(GRID), 2.5), "every must be a whole number of at least 1, not 2.5"),
        (lambda: OnePeerExponential(0), "one_peer_exponential cannot have n = 0 nodes"),
        (lambda: RandomMatching(GRID, seed="a"), "seed must be a whole number, not 'a'"),
        (lambda: Permuted(GRID, seed=1.5), r"seed must be a whole number, not 1\.5"),
    ],
)
def test_wrong_numbers_are_refused_at_once(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
