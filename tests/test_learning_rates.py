"""The schedules of the learning rate at the steps where they turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from dsgd.learning_rates import LEARNING_RATES, Constant, Cosine, Multistep
from dsgd.run import Run
from topologies.arguments import knob_of


def test_multistep_is_the_papers_schedule() -> None:
    rate = Multistep(lr=0.8, warmup=60)
    assert rate.at(0, 6000) == pytest.approx(0.08)
    assert rate.at(30, 6000) == pytest.approx(0.44)
    assert rate.at(60, 6000) == pytest.approx(0.8)
    assert [rate.at(t, 6000) for t in (2399, 2400, 4799, 4800)] == pytest.approx([0.8, 0.08, 0.08, 0.008])


def test_cosine_falls_from_lr_to_its_final_share() -> None:
    rate = Cosine(lr=0.2, warmup=10, final=0.1)
    assert rate.at(5, 110) == pytest.approx(0.11)
    assert rate.at(10, 110) == pytest.approx(0.2)
    assert rate.at(60, 110) == pytest.approx(0.11)
    assert rate.at(110, 110) == pytest.approx(0.02)


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_rates_stay_between_zero_and_lr(name: str) -> None:
    rate = LEARNING_RATES[name](lr=0.3)  # type: ignore[call-arg]
    assert all(0 <= rate.at(t, 50) <= 0.3 for t in range(50))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "lr is 0; it must be greater than 0"),
        (lambda: Constant(float("nan")), "lr is nan"),
        (lambda: Multistep(warmup=-1), "warmup is -1"),
        (lambda: Multistep(milestones=(0.5, 2.0)), "fraction of the run"),
        (lambda: Multistep(milestones=(0.8, 0.4)), r"milestones are \[0.8, 0.4\]; each must be greater than the one"),
        (lambda: Multistep(milestones=(0.5, 0.5)), "each must be greater than the one before"),
        (lambda: Cosine(floor=2), r"^floor is 2; it must be in \[0, 1\]"),
        (lambda: Cosine(final=2), "final is 2"),
    ],
)
def test_impossible_knobs_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [Multistep, Cosine])
def test_a_warm_up_ends_before_the_run(kind) -> None:  # type: ignore[no-untyped-def]
    Run(learning_rate=kind(warmup=9), steps=10)
    for steps in (1, 9):
        with pytest.raises(ValueError, match=f"warmup is 9; it must be below the run's {steps} steps") as caught:
            Run(learning_rate=kind(warmup=9), steps=steps)
        assert knob_of(caught.value) == "learning_rate.warmup"


@pytest.mark.parametrize(
    "rate",
    [
        Constant(0.3),
        Cosine(0.3),
        Cosine(0.3, warmup=7, floor=0.2, final=0.5),
        Multistep(0.3, warmup=5),
        Multistep(0.3, warmup=45, floor=0.0),  # beyond the first milestone
        Multistep(0.3, warmup=45, floor=0.0, decay=0.9),
        Multistep(0.3, milestones=(0.25, 0.5), decay=3.0),
        Multistep(0.3, warmup=60, floor=0.9, milestones=(0.01, 0.99)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("steps", [61, 100])
def test_the_greatest_rate_is_known_without_looking_at_every_step(rate: Any, steps: int) -> None:
    at = Run(learning_rate=rate, steps=steps).when(0)
    assert at.lr_max == pytest.approx(max(rate.at(step, steps) for step in range(steps)), rel=1e-15)
    assert at.lr_last == rate.at(steps - 1, steps)
    assert Run(learning_rate=rate, steps=10**15).when(3).lr_max > 0


def test_of_a_rate_that_knows_no_peak_all_steps_are_looked_at() -> None:
    @dataclass(frozen=True)
    class Hill:
        def at(self, step: int, steps: int) -> float:
            return 1.0 if step == 13 else 0.5

    assert Run(learning_rate=Hill(), steps=20).when(0).lr_max == 1.0
