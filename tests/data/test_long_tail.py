"""A long tail: counts by rank, ranks and examples keyed or in their order, the test set of equal classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from dsgd.data import DataSet, Digits, Examples, LongTail, NoData

DIGITS = Digits(test_size=530)  # leaves 123 or more of each class to train on, and 51 or more to test on
TAIL = LongTail(DIGITS, 120, 0.02, test_each=50)
COUNTS = [120, 77, 50, 32, 21, 13, 8, 5, 3, 2]  # by hand, and those of a published reproduction


@dataclass(frozen=True)
class Hundred:
    """A hundred classes of 500 examples to train on, in file order 0 1 2 ... 0 1 2 ...; the input is the place."""

    def load(self) -> DataSet:
        x = np.arange(50_000, dtype=np.float32)[:, None]
        return DataSet(Examples(x, np.arange(50_000) % 100), Examples(x[:200], np.arange(200) % 100), 100, "none")


def test_the_counts_fall_exponentially_with_the_rank() -> None:
    found = TAIL.load()
    assert TAIL.counts(10).tolist() == COUNTS
    assert np.bincount(found.train.y).tolist() == COUNTS
    assert np.bincount(found.test.y).tolist() == [50] * 10
    assert (found.classes, found.sha256, found.criterion) == (10, DIGITS.load().sha256, "cross_entropy")


def test_cifar100_lt_is_the_first_of_each_class_in_file_order() -> None:
    found = LongTail(Hundred()).load()
    assert len(found.train) == 10_847
    counts = np.bincount(found.train.y)
    assert counts.tolist() == [int(500 * 0.01 ** (k / 99)) for k in range(100)]
    assert [sum(counts > 100), sum((counts >= 20) & (counts <= 100)), sum(counts < 20)] == [35, 35, 30]
    for k in (0, 42, 99):
        assert found.train.x[found.train.y == k, 0].tolist() == [k + 100 * i for i in range(counts[k])]
    assert len(found.test) == 200


@pytest.mark.parametrize("split", [None, 0, 7])
def test_examples_stay_with_their_labels_apart_and_in_order(split: int | None) -> None:
    whole, found = DIGITS.load(), replace(TAIL, split=split).load()
    for part, source in ((found.train, whole.train), (found.test, whole.test)):
        places = {x.tobytes(): place for place, x in enumerate(source.x)}
        taken = [places[x.tobytes()] for x in part.x]
        assert taken == sorted(taken)
        np.testing.assert_array_equal(part.y, source.y[taken])


def test_a_split_deals_the_ranks_and_draws_the_examples() -> None:
    splits = [replace(TAIL, split=split) for split in range(20)]
    counts = np.stack([split.counts(10) for split in splits])
    assert all(sorted(row, reverse=True) == COUNTS for row in counts.tolist())
    assert len(np.unique(counts, axis=0)) == 20
    assert all(len(set(column)) > 3 for column in counts.T.tolist())  # no class keeps its place
    assert replace(TAIL, split=3).counts(10).tolist() == splits[3].counts(10).tolist()

    even = LongTail(DIGITS, 20, 1.0, split=0)  # no ranks to tell: what differs is drawn
    one, same, other = (replace(even, split=split).load().train.x for split in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == other.shape
    assert not np.array_equal(one, other)


def test_what_the_source_cannot_give_is_refused() -> None:
    message = r"class . has 1.. training examples, not the 150 asked for; lower largest"
    with pytest.raises(ValueError, match=message):
        replace(TAIL, largest=150).load()
    with pytest.raises(ValueError, match=r"class . has 5. test examples, not the 60 asked for; lower test_each"):
        replace(TAIL, test_each=60).load()
    with pytest.raises(ValueError, match="source has 1 class; a long tail needs examples of at least 2 classes"):
        LongTail(NoData()).load()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"imbalance": 0.0}, r"imbalance is 0.0; it must be above 0 and at most 1"),
        ({"imbalance": 1.5}, r"imbalance is 1.5; it must be above 0 and at most 1"),
        ({"largest": 99}, r"largest is 99 and imbalance 0.01, which leaves nothing of the rarest class"),
        ({"split": -1}, r"split is -1; it must be at least 0"),
        ({"test_each": 0}, r"test_each is 0; it must be at least 1"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongTail(DIGITS, **knobs)  # type: ignore[arg-type]  # the knobs are of several types
