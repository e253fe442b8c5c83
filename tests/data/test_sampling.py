from __future__ import annotations

import pickle

import numpy as np
import pytest

from dsgd.data import PARTITIONS, ByLabel, Digits, Dirichlet, Iid, Partition, Sampler, Shards, sampler
from dsgd.data.sampling import reshuffled_passes

Y = Digits().load().train.y
ALL = [Iid(), Shards(), Dirichlet(0.5), ByLabel()]


def stream_entry(size: int, position: int, seed: int, *key: str | int) -> int:
    return int(reshuffled_passes(size, position, position + 1, seed, *key)[0])


def slow_indices(source: Sampler, step: int) -> np.ndarray:
    """The definition, one sample at a time."""
    n, B, seed = source.n, source.batch_size, source.seed
    rows = np.empty((n, B), np.int64)
    for j in range(n):
        for b in range(B):
            if source.shards is None:
                rows[j, b] = stream_entry(source.examples, (step * n + j) * B + b, seed, "batches", "shared")
            else:
                own = source.shards[j]
                rows[j, b] = own[stream_entry(len(own), step * B + b, seed, "batches", j)]
    return rows


@pytest.mark.parametrize("size", [1, 7, 600, 1500])
def test_every_pass_covers_each_example_once(size: int) -> None:
    passes = reshuffled_passes(size, 0, 5 * size, 0, "a").reshape(5, size)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(np.arange(size), (5, 1)))
    if size > 7:
        assert len(np.unique(passes, axis=0)) == 5


def test_a_piece_of_the_passes_is_a_slice_of_all() -> None:
    whole = reshuffled_passes(50, 0, 4000, 9, "a")
    for start, stop in ((0, 1), (999, 1001), (1000, 2000), (1049, 3333), (3999, 4000)):
        np.testing.assert_array_equal(reshuffled_passes(50, start, stop, 9, "a"), whole[start:stop])


@pytest.mark.parametrize("size", [5, 1200])
def test_passes_are_uniform(size: int) -> None:
    first = reshuffled_passes(size, 0, 400 * size, 0, "a").reshape(400, size)[:, 0]
    assert abs(first.mean() / (size - 1) - 0.5) < 4 * 0.3 / 20


@pytest.mark.parametrize("partition", ALL, ids=repr)
@pytest.mark.parametrize(("n", "B"), [(1, 1), (3, 5), (8, 20)])
def test_agrees_with_the_definition(partition: Partition, n: int, B: int) -> None:
    source = sampler(partition, Y, n, B, 5)
    for step in (0, 1, 63, 64, 200):
        indices = source.indices(step)
        assert indices.shape == (n, B)
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices, slow_indices(source, step))


@pytest.mark.parametrize("partition", ALL, ids=repr)
def test_pure_in_the_order_of_access(partition: Partition) -> None:
    forwards, jumping = sampler(partition, Y, 4, 8, 1), sampler(partition, Y, 4, 8, 1)
    expected = {step: forwards.indices(step).copy() for step in range(150)}
    for step in (149, 0, 70, 64, 63, 149, 1):
        np.testing.assert_array_equal(jumping.indices(step), expected[step])


@pytest.mark.parametrize("partition", ALL, ids=repr)
def test_keyed_by_the_seed(partition: Partition) -> None:
    first, other = (sampler(partition, Y, 4, 8, seed).indices(0) for seed in (1, 2))
    assert not np.array_equal(first, other)


def test_iid_replicas_share_one_pass() -> None:
    source = sampler(Iid(), Y, 4, 50, 0)
    dealt = np.concatenate([source.indices(step).ravel() for step in range(8)])[: len(Y)]
    np.testing.assert_array_equal(np.sort(dealt), np.arange(len(Y)))


def test_iid_allows_more_replicas_than_examples() -> None:
    source = sampler(Iid(), Y[:10], 64, 10, 0)
    np.testing.assert_array_equal(np.sort(source.indices(70), axis=1), np.tile(np.arange(10), (64, 1)))


@pytest.mark.parametrize("partition", ALL[1:], ids=repr)
def test_replicas_walk_passes_over_their_own_shard(partition: Partition) -> None:
    source = sampler(partition, Y, 4, 10, 0)
    assert source.shards is not None
    steps = np.stack([source.indices(step) for step in range(60)])
    for replica, shard in enumerate(source.shards):
        walked = steps[:, replica].ravel()[: len(shard)]
        np.testing.assert_array_equal(np.sort(walked), shard)


def test_a_table_is_a_chunk_of_steps() -> None:
    source = sampler(Shards(), Y, 4, 10, 0)
    assert source.table(2).shape == (source.chunk_steps, 4, 10)
    np.testing.assert_array_equal(source.table(2)[3], source.indices(2 * source.chunk_steps + 3))
    assert source.table(2) is source.table(2)


def test_chunks_shrink_for_many_replicas() -> None:
    assert sampler(Iid(), Y, 16, 32, 0).chunk_steps == 64
    assert sampler(Iid(), Y, 4096, 64, 0).chunk_steps == 4
    assert sampler(Iid(), Y, 4096, 1024, 0).chunk_steps == 1


@pytest.mark.parametrize("partition", [Iid(), Shards()], ids=repr)
def test_full_batches(partition: Partition) -> None:
    source = sampler(partition, Y, 4, None, 0)
    own = source.shards or [np.arange(len(Y))] * 4
    for step in (0, 1, 77):
        np.testing.assert_array_equal(np.sort(source.indices(step), axis=1), np.stack(own))


def test_full_batches_of_unequal_shards_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Full batches need shards of one size, but these have \d+ to \d+"):
        sampler(Dirichlet(), Y, 4, None, 0)


def test_a_sampler_can_be_sent_elsewhere() -> None:
    source = sampler(Dirichlet(), Y, 4, 8, 0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).indices(9), source.indices(9))


def test_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="batch_size=1438 is larger than the training set: give at most 1437"):
        sampler(Iid(), Y, 2, 1438, 0)
    with pytest.raises(
        ValueError, match=r"batch_size=100 does not fit replica 0's shard of size 89, the smallest of 16"
    ):
        sampler(Shards(), Y, 16, 100, 0)
    with pytest.raises(ValueError, match=r"batch_size=2 does not fit replica 0's shard of size 0"):
        sampler(Shards(), Y[:10], 16, 2, 0)
    with pytest.raises(ValueError, match="batch_size=0 is not possible: give 1 to 89"):
        sampler(Shards(), Y, 16, 0, 0)
    with pytest.raises(ValueError, match="n=0 replicas is not possible: give at least 1"):
        sampler(Iid(), Y, 0, 1, 0)


def test_every_partition_of_the_table_is_tested() -> None:
    assert {type(partition) for partition in ALL} == set(PARTITIONS.values())
