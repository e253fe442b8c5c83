"""Blocks part the replicas evenly, and never let more rows cross than contiguous ones."""

import random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from topologies import (
    GRAPHS,
    Dense,
    Identity,
    KnobError,
    Mean,
    OnePeerExponential,
    Periodic,
    Permutation,
    Permuted,
    RandomMatching,
    Sparse,
    Static,
    Topology,
    blocks,
    crossings,
)

RANDOM_MATRICES = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.sampled_from([0, 0, 0, 0.5, -0.25]), min_size=n * n, max_size=n * n).map(
        lambda entries: np.array(entries).reshape(n, n)
    )
)


def contiguous(n, parts):
    return [block.tolist() for block in np.array_split(np.arange(n), parts)]


def counted(W, parted):
    """The same by a loop, straight from the definition."""
    return sum(any(W[i, j] != 0 for i in block) for block in parted for j in range(len(W)) if j not in block)


def check(W, n, parts):
    parted = blocks(W, parts)
    assert sorted(row for block in parted for row in block) == list(range(n))
    sizes = [len(block) for block in parted]
    assert len(sizes) == parts
    assert max(sizes) - min(sizes) <= 1
    assert all(list(block) == sorted(block) for block in parted)
    assert [block[0] for block in parted] == sorted(block[0] for block in parted)
    assert all(type(row) is int for block in parted for row in block)
    assert blocks(W, parts) == parted
    assert crossings(W, parted) <= crossings(W, contiguous(n, parts))
    return parted


def shuffled(W, seed=0):
    order = np.random.default_rng(seed).permutation(W.n)
    return Sparse(csr_array(W.sparse()[order][:, order]))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("graph", GRAPHS)
def test_laws_of_blocks(graph, parts):
    for W in (Topology(graph, 16).matrix(), shuffled(Topology(graph, 16).matrix())):
        parted = check(W, 16, parts)
        assert crossings(W, parted) == counted(W.toarray(), parted)


@given(W=RANDOM_MATRICES, data=st.data())
@settings(max_examples=60, deadline=None)
def test_laws_for_any_matrix(W, data):
    parted = check(W, len(W), data.draw(st.integers(1, len(W))))
    assert crossings(W, parted) == crossings(csr_array(W), parted) == counted(W, parted)


SCHEDULES = [
    Static(Topology("grid", 12)),
    OnePeerExponential(11),
    RandomMatching(Topology("ring", 10), seed=1),
    Permuted(Topology("path", 9)),
    Periodic(OnePeerExponential(8), 4),
    Periodic(Static(Topology("complete", 6)), 3),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_laws_of_a_schedule(schedule):
    parted = check(schedule, schedule.n, 3)
    steps = range(schedule.period or 64)
    assert crossings(schedule, parted) == sum(counted(schedule(step).toarray(), parted) for step in steps)


@pytest.mark.parametrize(
    ("graph", "n", "parts", "rows"),
    [
        ("ring", 16, 2, 4),
        ("ring", 16, 5, 10),
        ("path", 16, 4, 6),
        ("complete", 16, 4, 48),
        ("grid", 64, 4, 32),  # as much as four quadrants of 4 x 4, two sides of 4 each
        ("barbell", 16, 2, 2),
        ("binary_tree", 63, 2, 2),
        ("hypercube", 64, 2, 40),  # a ball: two subcubes would cost 64
    ],
)
def test_crossings_of_known_graphs(graph, n, parts, rows):
    W = Topology(graph, n).matrix()
    assert crossings(W, blocks(W, parts)) == rows


def test_quadrants_of_a_grid():
    quadrants = np.arange(64).reshape(2, 4, 2, 4).swapaxes(1, 2).reshape(4, 16).tolist()
    assert crossings(Topology("grid", 64).matrix(), quadrants) == 32


def test_a_barbell_is_cut_at_its_bridge_whatever_its_numbers():
    W = shuffled(Topology("barbell", 20).matrix())
    left, right = blocks(W, 2)
    assert np.count_nonzero(W.toarray()[np.ix_(left, right)]) == 1


@pytest.mark.parametrize(("n", "parts"), [(64, 2), (64, 3), (65, 8), (10_000, 16)])
def test_a_ring_is_found_again_behind_shuffled_numbers(n, parts):
    W = shuffled(Topology("ring", n).matrix())
    assert crossings(W, blocks(W, parts)) == 2 * parts


def test_a_large_grid_and_a_large_tree_are_cut_across():
    grid, tree = Topology("grid", 10_000).matrix(), Topology("binary_tree", 10_000).matrix()
    assert crossings(grid, contiguous(10_000, 16)) == 3000
    assert crossings(grid, blocks(grid, 16)) < 1200
    assert crossings(tree, contiguous(10_000, 2)) == 7501
    assert crossings(tree, blocks(tree, 2)) < 20


def test_one_peer_exponential_over_its_period():
    """Ranges are left by hops of 1, 2, 4 and 8, both ways; the even and the odd replicas by the hop of 1 only."""
    schedule = OnePeerExponential(16)
    assert schedule.period == 4
    assert crossings(schedule, contiguous(16, 2)) == 2 * (1 + 2 + 4 + 8)
    assert blocks(schedule, 2) == (tuple(range(0, 16, 2)), tuple(range(1, 16, 2)))
    assert crossings(schedule, blocks(schedule, 2)) == 16


def test_no_shared_generator_is_touched():
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002  # the global one is what is watched
    blocks(Topology("watts_strogatz", 64).matrix(), 4)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_only_the_steps_that_mix_count():
    schedule = Static(Topology("ring", 12))
    assert crossings(Periodic(schedule, 5), contiguous(12, 3)) == crossings(schedule, contiguous(12, 3)) == 6


def test_a_schedule_without_a_period_is_seen_for_64_steps():
    schedule = RandomMatching(Topology("ring", 8))
    seen = sum(crossings(schedule(step), contiguous(8, 2)) for step in range(64))
    assert crossings(schedule, contiguous(8, 2)) == seen


@pytest.mark.parametrize("W", [Mean(10), Identity(10), Dense(np.ones((3, 10))), np.full((10, 10), 0.1)])
def test_where_no_block_is_better_they_are_contiguous(W):
    assert blocks(W, 3) == ((0, 1, 2, 3), (4, 5, 6), (7, 8, 9))


def test_the_mean_of_many_is_never_built():
    assert crossings(Mean(100_000), blocks(Mean(100_000), 4)) == 300_000


def test_what_is_stored_and_zero_does_not_cross():
    assert crossings(csr_array(([0.0, 1.0], ([0, 1], [1, 0])), shape=(2, 2)), [[0], [1]]) == 1


def test_rows_are_counted_once_a_block_and_not_a_link():
    star = Topology("star", 9).matrix()
    assert crossings(star, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]) == 2 + 6


def test_a_disconnected_graph_is_cut_between_its_components():
    W = nx.to_numpy_array(nx.disjoint_union_all([nx.complete_graph(4)] * 3))
    order = np.random.default_rng(1).permutation(12)
    assert crossings(W[order][:, order], blocks(W[order][:, order], 3)) == 0


def test_the_direction_of_a_link_counts():
    W = Permutation((np.arange(4) + 1) % 4)
    assert crossings(W, [[0, 1], [2, 3]]) == 2
    assert crossings(np.triu(np.ones((4, 4))), [[0, 1], [2, 3]]) == 2


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (0, "parts must be a whole number of at least 1, not 0"),
        (-2, "not -2"),
        (2.0, r"not 2\.0"),
        (True, "not True"),
        (9, "n = 8 replicas fill at most 8 blocks, not 9: parts must be from 1 to 8"),
    ],
)
def test_an_impossible_number_of_parts(parts, sentence):
    for W in (Mean(8), Static(Topology("ring", 8)), np.eye(8)):
        with pytest.raises(KnobError, match=sentence) as caught:
            blocks(W, parts)
        assert caught.value.knob == "parts"


@pytest.mark.parametrize("parted", [[[0, 1]], [[0, 1], [1, 2]], [[0, 1], [2, 3]], [[0], [1], [2], [2]]])
def test_crossings_need_every_replica_once(parted):
    with pytest.raises(ValueError, match=r"blocks must hold each of the replicas 0\.\.2 exactly once"):
        crossings(np.eye(3), parted)


@pytest.mark.parametrize("W", [np.ones((2, 3)), np.ones(3), np.ones((3, 3), dtype=complex)])
def test_what_is_no_mixing_matrix(W):
    with pytest.raises(ValueError, match="a mixing matrix must"):
        blocks(W, 2)
