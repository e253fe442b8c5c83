from __future__ import annotations

import numpy as np
import pytest

from dsgd.data import PARTITIONS, ByLabel, Digits, Dirichlet, Iid, Partition, Shards

Y = Digits().load().train.y
SHARDING = [Shards(), Dirichlet(0.5), ByLabel()]


def label_distance(shards: tuple[np.ndarray, ...]) -> float:
    """Mean total variation distance between a replica's labels and all labels."""
    overall = np.bincount(Y) / len(Y)
    own = [np.bincount(Y[shard], minlength=10) / len(shard) for shard in shards]
    return float(np.mean([np.abs(share - overall).sum() / 2 for share in own]))


@pytest.mark.parametrize("partition", SHARDING, ids=repr)
@pytest.mark.parametrize("n", [1, 4, 16])
def test_shards_are_disjoint_and_cover(partition: Partition, n: int) -> None:
    shards = partition.shards(Y, n, seed=3)
    assert shards is not None
    assert len(shards) == n
    dealt = np.concatenate(shards)
    assert dealt.dtype == np.int64
    assert len(np.unique(dealt)) == len(dealt)
    left_over = len(Y) % n if isinstance(partition, Shards) else 0
    assert len(dealt) == len(Y) - left_over
    assert all((np.diff(shard) > 0).all() for shard in shards)


@pytest.mark.parametrize("partition", SHARDING, ids=repr)
def test_shards_are_keyed_by_the_seed(partition: Partition) -> None:
    first, again, other = (partition.shards(Y, 8, seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))


def test_iid_has_no_shards() -> None:
    partition: Partition = Iid()
    assert partition.shards(Y, 4, 0) is None


def test_shards_are_equal_and_alike() -> None:
    shards = Shards().shards(Y, 10, 0)
    assert {len(shard) for shard in shards} == {143}
    assert label_distance(shards) < 0.15


def test_large_alpha_is_nearly_uniform() -> None:
    shards = Dirichlet(1e6).shards(Y, 10, 0)
    assert max(map(len, shards)) - min(map(len, shards)) <= 20
    assert label_distance(shards) < 0.03


def test_small_alpha_is_skewed() -> None:
    distances = [label_distance(Dirichlet(alpha).shards(Y, 5, 0)) for alpha in (0.01, 0.5, 100.0)]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.5


@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_keeps_its_minimum(seed: int) -> None:
    shards = Dirichlet(0.3, min_partition_size=20).shards(Y, 16, seed)
    assert min(map(len, shards)) >= 20


def test_dirichlet_gives_up_with_advice() -> None:
    with pytest.raises(ValueError, match=r"In 100 draws with alpha=0\.01 some of the 32 replicas .* raise alpha"):
        Dirichlet(0.01).shards(Y, 32, 0)


def test_tiny_alpha_gives_whole_classes() -> None:
    shards = Dirichlet(1e-6, min_partition_size=1).shards(Y, 3, 0)
    assert sum(len(np.unique(Y[shard])) for shard in shards) == 10


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_by_label_has_few_labels(labels: int) -> None:
    shards = ByLabel(labels).shards(Y, 20, 0)
    assert max(len(np.unique(Y[shard])) for shard in shards) <= 2 * labels
    assert np.mean([len(np.unique(Y[shard])) for shard in shards]) <= labels + 1
    assert max(map(len, shards)) - min(map(len, shards)) <= labels


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf")])
def test_impossible_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha={alpha} is not possible"):
        Dirichlet(alpha)


def test_other_impossible_knobs() -> None:
    with pytest.raises(ValueError, match="min_partition_size=0 is not possible"):
        Dirichlet(min_partition_size=0)
    with pytest.raises(ValueError, match="labels_per_replica=0 is not possible"):
        ByLabel(0)


def test_the_table_of_partitions() -> None:
    assert list(PARTITIONS) == ["iid", "shards", "dirichlet", "by_label"]
