"""Accuracies of classes and of groups of them, on a network that answers by what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from dsgd import trees
from dsgd.data import Digits, LongTail
from dsgd.gradients.plain import Plain
from dsgd.metrics import Accuracy, ClassAccuracy, Snapshot, Split
from dsgd.metrics.accuracy import EXAMPLES_AT_ONCE
from dsgd.objectives import network
from dsgd.run import Run
from dsgd.tasks import Task
from dsgd.trees import Params

GROUPS = ("all", "many", "medium", "few")
TRAIN = (0,) * 6 + (1,) * 4 + (2,) * 2 + (3,)


def snapshot(*biases: Sequence[float], test: Sequence[int], asked: Sequence[int]) -> Snapshot:
    """Replicas that answer with the class asked for by the input, unless their bias towards another is above one."""
    module = torch.nn.Linear(4, 4).double()
    net = network(module, "cross_entropy")
    eye = torch.eye(4, dtype=torch.float64).flatten()
    rows = torch.stack([torch.cat([eye, torch.tensor(bias, dtype=torch.float64)]) for bias in biases])
    inputs = torch.eye(4, dtype=torch.float64)
    train = Split(torch.zeros(len(TRAIN), 4).double(), torch.tensor(TRAIN))
    return Snapshot(0, Params(rows, net.layout), net, train, Split(inputs[list(asked)], torch.tensor(test)))


FAIR = (0.0, 0.0, 0.0, 0.0)


def test_classes_count_the_same_however_many_test_examples_they_have() -> None:
    """Right are 3 of 4 of class 0, 1 of 2 of class 1, 0 of 1 of class 2, 1 of 1 of class 3."""
    test, asked = (0, 0, 0, 0, 1, 1, 2, 3), (0, 0, 0, 3, 1, 0, 1, 3)
    found = ClassAccuracy(many=4, few=2)(snapshot(FAIR, test=test, asked=asked))
    assert found["class_training_examples"] == [6, 4, 2, 1]
    assert found["class_accuracies_mean_model"] == [0.75, 0.5, 0, 1]
    expected = {"all": 2.25 / 4, "many": 0.75, "medium": 0.25, "few": 1}  # 4 and 2 themselves are of the medium
    assert {group: found[f"class_accuracy_{group}_mean_model"] for group in GROUPS} == expected
    assert Accuracy()(snapshot(FAIR, test=test, asked=asked))["test_accuracy_mean_model"] == 5 / 8


def test_the_replicas_have_a_mean_and_a_worst_and_are_not_their_mean_model() -> None:
    """One always answers 0, one always 3; their mean has no bias strong enough to change an answer."""
    stubborn = [(1.5, 0, 0, 0), (0, 0, 0, 1.5), FAIR]
    found = ClassAccuracy(many=4, few=2)(snapshot(*stubborn, test=(0, 1, 2, 3), asked=(0, 1, 2, 3)))
    assert {found[f"class_accuracy_{group}_mean_model"] for group in GROUPS} == {1.0}
    means = [found[f"class_accuracy_{group}_replicas_mean"] for group in GROUPS]
    assert means == pytest.approx([(0.25 + 0.25 + 1) / 3, 2 / 3, 1 / 3, 2 / 3])
    assert [found[f"class_accuracy_{group}_replicas_worst"] for group in GROUPS] == [0.25, 0, 0, 0]


def test_a_class_without_test_examples_is_left_out_and_a_group_of_none_has_no_value() -> None:
    shown = snapshot(FAIR, test=(0, 1, 1), asked=(0, 1, 2))
    found = ClassAccuracy(many=4, few=2)(shown)
    assert found["class_accuracies_mean_model"] == [1, 0.5, None, None]
    assert found["class_accuracy_all_mean_model"] == 0.75
    assert found["class_accuracy_few_mean_model"] is None
    assert found["class_accuracy_few_replicas_worst"] is None
    assert ClassAccuracy(many=9, few=10)(shown)["class_accuracy_medium_mean_model"] is None
    assert ClassAccuracy(many=9, few=10)(shown)["class_accuracy_few_mean_model"] == 0.75


def test_of_equal_classes_the_mean_is_the_accuracy_of_replicas_and_twins_alike(
    small: Callable[..., Run], snapshot_of: Callable[[Run], Snapshot]
) -> None:
    data = LongTail(Digits(test_size=530), 30, 0.1, split=0, test_each=50)
    at_the_end = snapshot_of(small(task=Task(data), twins=(Plain(),), n=40, batch_size=1, steps=40))
    found, known = ClassAccuracy(20, 10)(at_the_end), Accuracy()(at_the_end)
    for whose in ("mean_model", "replicas_mean", "replicas_worst"):
        assert found[f"class_accuracy_all_{whose}"] == pytest.approx(known[f"test_accuracy_{whose}"], abs=1e-12)
    assert found["centralized_class_accuracy_all"] == pytest.approx(known["centralized_test_accuracy"], abs=1e-12)
    counts = [found["class_training_examples"]]
    assert counts == [data.counts(10).tolist()]


def test_many_examples_are_taken_in_parts() -> None:
    repeats = EXAMPLES_AT_ONCE // 4 + 3
    shown = snapshot(FAIR, test=(0, 1, 2, 3) * repeats, asked=(0, 1, 0, 3) * repeats)
    assert ClassAccuracy()(shown)["class_accuracies_mean_model"] == [1, 1, 0, 1]


def test_the_mean_model_is_the_replicas_mean(small: Callable[..., Run], snapshot_of: Callable[..., Snapshot]) -> None:
    at_the_end = snapshot_of(small())
    alone = replace(at_the_end, params=trees.mean(at_the_end.params))
    names = [f"class_accuracy_{group}_mean_model" for group in GROUPS]
    one, other = (ClassAccuracy(8, 5)(each) for each in (at_the_end, alone))
    assert [one[name] for name in names] == [other[name] for name in names]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"many": 4, "few": 6}, "few is 6; it must be 0 to 5, so that no class is of many and few"),
        ({"few": -1}, "few is -1; it must be 0 to 101"),
        ({"every": -1}, "every is -1"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassAccuracy(**knobs)
