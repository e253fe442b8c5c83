"""What holds for every metric of the table: its numbers are finite and named, and replicas have no order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass, replace

import pytest
import torch

import dsgd.metrics
from dsgd.gradients.plain import Plain
from dsgd.learning_rates import Constant
from dsgd.metrics import METRICS, Snapshot, Split, Values
from dsgd.run import Run

Make = Callable[..., Run]
Snapshots = Callable[[Run], Snapshot]

SAMPLED = r"sharpness_xi|_(xi|xi_scaled)$|smoothing"  # draws are keyed by place: another order is another draw
CUBATURE = ("equivalence",)  # whose axes turn with the signs of eigenvectors


@pytest.fixture
def trained(small: Make, snapshot_of: Snapshots) -> Snapshot:
    return snapshot_of(small(twins=(Plain(),), learning_rate=Constant(0.5)))


def test_every_metric_has_a_row() -> None:
    kinds = {part for name in dsgd.metrics.__all__ if is_dataclass(part := getattr(dsgd.metrics, name))}
    assert kinds - {Snapshot, Split} == set(METRICS.values())


def numbers(values: Values) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not isinstance(number, str):
                yield name, number


def test_numbers_are_finite_and_named_like_no_other_metric_s(trained: Snapshot) -> None:
    taken: set[str] = set()
    for name, metric in METRICS.items():
        found = metric()(trained)
        assert all(math.isfinite(number) for _, number in numbers(found)), name
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in found), name
        assert not taken & set(found), name
        taken |= set(found)


@pytest.mark.parametrize("name", METRICS)
def test_the_replicas_have_no_order(trained: Snapshot, name: str) -> None:
    params = trained.params.like(trained.params.matrix[[2, 0, 3, 1]])
    turned = METRICS[name]()(replace(trained, params=params))
    for key, value in METRICS[name]()(trained).items():
        if isinstance(value, float) and not re.search(SAMPLED, key):
            assert turned[key] == pytest.approx(value, rel=0.05 if name in CUBATURE else 1e-4, abs=1e-9), key


@pytest.mark.parametrize("name", METRICS)
def test_it_looks_and_does_not_touch(trained: Snapshot, name: str) -> None:
    before = trained.params.matrix.clone()
    state = torch.random.get_rng_state()
    once, again = METRICS[name]()(trained), METRICS[name]()(trained)
    assert torch.equal(trained.params.matrix, before)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert once == again
