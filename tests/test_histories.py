"""What a study asks of its histories: selection by words, one value a seed, gaps counted, powers and curves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dsgd import histories
from dsgd.statistics import Claim

CLAIMED = {"better": (1.0, 1.1, 1.2), "worse": (-1.0, -1.1, -1.2), "unknown": ()}
VERDICTS = ("supported", "refuted", "inconclusive")


def found():
    return {
        "ring 0": [{"step": 0}, {"step": 1, "x": 1.0, "lr": 0.1}, {"step": 2, "x": 3.0, "lr": 0.1}],
        "ring 1": [{"step": 2, "x": None, "lr": 0.3}],
        "ring 10": [{"step": 2, "x": 7.0, "lr": 0.1}],
        "ringed 1": [{"step": 2, "x": 9.0, "lr": 0.1}],
    }


def test_a_label_is_selected_by_whole_words_and_a_whole_seed():
    assert histories.select(found(), "ring") == [found()["ring 0"], found()["ring 1"], found()["ring 10"]]
    assert histories.select(found(), "ring", 1) == [found()["ring 1"]]
    assert histories.select(found(), "star") == []
    assert histories.seeds(found(), "ring") == [0, 1, 10]


def test_one_value_a_seed_and_every_gap_counted():
    one = histories.by_seed(found(), "ring", "x")
    assert (one.values, one.unavailable, one.measurements) == ((2.0, 7.0), 1, 4)
    assert histories.by_seed(found(), "ring", "x", max).values == (3.0, 7.0)
    assert histories.by_seed(found(), "ring", "y").measurements == 0


def test_the_seeds_that_settings_ask_for_start_at_their_first():
    settings = SimpleNamespace(seeds=3, seed=800)
    assert list(histories.seeds_of(settings)) == [800, 801, 802]
    assert histories.seeds_of(settings, 4) == range(800, 812)


def test_ends_are_paired_by_seed_and_a_gap_stays_one():
    ends = histories.ends(found(), "ring", "x")
    assert ends == [3.0, None, 7.0]
    assert histories.mean(ends) == 5.0
    assert histories.mean([None]) is None
    assert histories.ratios(ends, [2.0, 2.0, 0.0]) == [1.5, None, None]
    assert histories.ratios([0.0], [4.0]) == [0.0]
    assert histories.percent(histories.differences(ends, [1.0, 1.0, None])) == [200.0, None, None]
    with pytest.raises(ValueError, match="shorter"):
        histories.differences(ends, [1.0])
    one = histories.one_a_seed(ends)
    assert (one.values, one.unavailable, one.measurements) == ((3.0, 7.0), 1, 3)


def test_a_cell_has_the_mean_and_its_interval():
    assert histories.cell([0.0, 1.0, 2.0, None]) == "1.00 [-1.48, 3.48]"  # 1 +- 4.303 / sqrt(3)
    assert histories.cell([1.25], digits=1) == "1.2"
    assert histories.cell([None]) == "not available"
    assert histories.cell([], missing="") == ""
    assert histories.by_seed(found(), "ring", "x").cell(0) == "4 [-27, 36]"  # 4.5 +- 12.706 * 2.5


def test_verdicts_are_found_by_name_and_those_not_supported_are_told():
    claims = [Claim(name, "claim", values, 0.0, None, "above 0") for name, values in CLAIMED.items()]
    found = histories.judged(claims)
    assert {name: one.verdict for name, one in found.items()} == dict(zip(CLAIMED, VERDICTS, strict=True))
    assert histories.not_supported(found) == "worse (refuted), unknown (inconclusive)"
    assert histories.not_supported({"better": found["better"]}) == ""


def test_a_sample_makes_a_claim_that_tells_its_gaps():
    claim = histories.sample([[1.0, None], [None]]).claim("c", "control", 0.5, None, "at least a half")
    assert (claim.values, claim.low, claim.unavailable, claim.taken) == ((1.0,), 0.5, 2, 3)
    assert claim.incomplete


@pytest.mark.parametrize("y", [[1.0, None, 4.0], [1.0, 0.0, 4.0], [1.0, -2.0, 4.0]])
def test_a_power_needs_every_value(y):
    assert histories.power([1.0, 2.0, 4.0], [3.0, 12.0, 48.0]) == pytest.approx(2)
    assert histories.power([1.0, 2.0, 4.0], y) is None
    assert histories.powers([1.0, 2.0, 4.0], [y, [1.0, 1.0, 1.0]]).unavailable == 1


def test_a_ladder_is_one_list_a_seed():
    runs = {f"up {lr} {seed}": [{"x": 0.0}, {"x": lr * seed}] for lr in (0.1, 0.2) for seed in (1, 2)}
    assert histories.ladders(runs, "up", (0.1, 0.2), "x") == [[0.1, 0.2], [0.2, 0.4]]
    drawn = histories.band("up", (0.1, 0.2), [[0.1, None], [0.2, None], [0.6, None]])
    assert (drawn.y, drawn.lo, drawn.hi) == ([0.2, None], [0.1, None], [0.6, None])


def test_ends_are_grouped_and_their_medians_know_gaps():
    groups = histories.ends_by(histories.select(found(), "ring"), "lr")
    assert list(groups) == [0.1, 0.3]
    assert [histories.medians(ends, "x") for ends in groups.values()] == [[5.0], [None]]
    assert histories.reach(histories.available(groups[0.1], "x")) == "3 to 7"
    assert histories.reach([]) == "not available"


def test_a_median_curve_is_drawn_where_more_than_half_of_the_runs_have_a_value():
    rows = [[{"s": [1.0, 0.5], "c": [v, None if v > 1 else v]}] for v in (1.0, 2.0, 3.0)]
    longer = [{"s": [1.0, 0.5, 0.25], "c": [4.0, 1.0, 1.0]}]
    curve = histories.median_curve("c", [*rows, longer], "s", "c")
    assert (curve.x, curve.y) == ([1.0], [2.5])
