from __future__ import annotations

import pytest

from dsgd.data import DATASETS, Iid, NoData, sampler


def test_one_empty_example() -> None:
    data = NoData().load()
    assert data.train.x.shape == (1, 0)
    assert data.train.y.tolist() == [0]
    assert data.criterion == "output"


def test_every_replica_gets_it() -> None:
    assert sampler(Iid(), NoData().load().train.y, 4, 1, 0).indices(3).tolist() == [[0]] * 4
    with pytest.raises(ValueError, match="batch_size=2 is larger than the training set: give at most 1"):
        sampler(Iid(), NoData().load().train.y, 4, 2, 0)


def test_the_table_of_data_sets() -> None:
    assert list(DATASETS) == ["digits", "fashion_mnist", "cifar10", "no_data", "held_out", "text"]
