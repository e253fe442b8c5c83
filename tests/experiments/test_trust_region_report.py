"""What the study of trust regions concludes from histories that are made up."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dsgd.statistics import judge
from dsgd.study import Figure, Report, find_study

STUDY: Any = find_study("trust_region")
SETTINGS = STUDY.presets["standard"]
D = {"TRAM-x-0.1": 0.01, "TRAM-x-0.3": 0.1, "TRAM-x-1": 0.8, "TRAM-initial": 0.3, "TRAM-previous": 1e-4}


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STUDY, "curves", lambda title, *_, **__: Figure(title, "<svg/>"))


def row(step: int, ppl: float, zero_shot: float) -> dict[str, Any]:
    others = {f"perplexity_of_{k}_mean_model": zero_shot for k in range(4)}
    return {"step": step, "perplexity_mean_model": ppl, "zero_shot_perplexity_mean_model": zero_shot, **others}


def concluded(
    gain: float = 0.1, kept: float = 0.5, ring: float = 2.0, noise: float = 1.0, off: float = 1e-7, forgets: float = 3.0
) -> tuple[dict[str, Any], Report]:
    """TRAM-x gains `gain` in the domain and keeps `kept` zero-shot, as ASAM does; the ring keeps `ring` more.

    Its d grows by the square of the noise's ratio, to the power `noise`; |e / w| is off d by `off`.
    """
    stream, found = Random(1), {}
    for label in STUDY.runs(SETTINGS):
        place, method, seed = label.split()
        own = Random(seed).gauss(0, 0.2)  # of the seed, which pairing takes out
        ppl, zero_shot = 7.4 + own, 6.0 + forgets + own
        if place == "ring":
            zero_shot -= ring
        if method in ("TRAM-x-1", "ASAM", "ASAM-constant"):
            ppl, zero_shot = ppl - gain, zero_shot - kept
        if method == "Adam-slow":
            ppl, zero_shot = ppl + 0.1, zero_shot - 1
        if method == "ASAM-constant":
            ppl += 0.03
        last = row(800, ppl + stream.gauss(0, 0.002), zero_shot + stream.gauss(0, 0.002))
        if method.startswith("TRAM"):
            d = D.get(method, 0.1) ** (noise if "-x-" in method else 1)
            gauges = {"gauge_length": 1.0, "gauge_own_length": d * (1 + off)}
            last |= gauges if method == "TRAM-Fisher" else gauges | {"gauge_d": d / (4 if place == "ring" else 1)}
        found[label] = [row(0, 8.4 + own, 6.0 + own), last]
    report = STUDY.report(SETTINGS, found)
    return {one.claim.name: one for one in judge(report.claims)}, report


def test_what_the_paper_says_is_supported_where_it_is_so() -> None:
    found, report = concluded()
    for name in ("TRAM-x: in domain", "TRAM-x: zero-shot", "TRAM-x beside ASAM: zero-shot", "ring: TRAM-x: zero-shot"):
        assert found[name].verdict == "supported", name
    assert found["TRAM-x: in domain"].interval.estimate == pytest.approx(-0.1, abs=0.005)
    assert found["TRAM-previous: in domain"].verdict == "refuted"
    assert found["TRAM-previous: zero-shot"].verdict == "refuted"
    assert all(one.verdict == "supported" for one in found.values() if one.claim.kind == "control")
    assert "with TRAM-x at noise 1 -0.1" in report.answer


def test_what_small_steps_keep_is_held_against_a_perturbation() -> None:
    name = "TRAM-x beside small steps: zero-shot"
    less, more = concluded(kept=0.5)[0], concluded(kept=1.5)[0]
    assert (less[name].verdict, more[name].verdict) == ("refuted", "supported")


def test_a_perturbation_that_hurts_is_refuted() -> None:
    found, _ = concluded(gain=-0.1, kept=-0.5)
    for name in ("TRAM-x: in domain", "TRAM-x: zero-shot", "ring: TRAM-x: in domain", "ring: TRAM-x: zero-shot"):
        assert found[name].verdict == "refuted", name


def test_the_mechanism_is_judged_by_what_was_logged() -> None:
    right, wrong = concluded()[0], concluded(noise=0.2, off=1e-3)[0]
    for name in ("|e / w| is d", "d grows with the noise"):
        assert (right[name].verdict, wrong[name].verdict) == ("supported", "refuted"), name
    assert right["d grows with the noise"].interval.estimate == pytest.approx(8.0)
    assert right["d of TRAM-previous is nothing"].interval.estimate == pytest.approx(1e-4)


def test_a_ring_that_forgets_as_much_is_seen() -> None:
    names = ("ring: forgets less", "ring: forgets less than small steps")
    kept, lost = concluded(ring=2.0)[0], concluded(ring=-0.2)[0]
    for name in names:
        assert (kept[name].verdict, lost[name].verdict) == ("supported", "refuted"), name
    between = concluded(ring=0.8)[0]
    assert [between[name].verdict for name in names] == ["supported", "refuted"]


def test_where_nothing_is_forgotten_the_control_fails() -> None:
    found, report = concluded(forgets=0.1)
    assert found["fine-tuning forgets"].verdict == "refuted"
    assert "fine-tuning forgets (refuted)" in report.answer


def test_all_methods_have_their_rows_and_the_ring_has_adams_differences_of_its_own() -> None:
    table = concluded(ring=2.0)[1].tables[0]
    assert len(table.rows) == 1 + len(STUDY.METHODS) + len(STUDY.ON_THE_RING)
    of = {tuple(cells[:2]): cells for cells in table.rows}
    assert str(of["ring", "TRAM-x-1"][5]).startswith("-0.5")
    assert of["one", "before"][6:] == (None, None)


def test_runs_of_a_method_and_place_are_one_pack_and_differ_from_others_by_the_method_alone() -> None:
    from dsgd.packs import packs

    runs = STUDY.runs(STUDY.presets["smoke"])
    parts = packs(list(runs.values()))
    assert [len(part) for part in parts] == [2] * (len(STUDY.METHODS) + len(STUDY.ON_THE_RING))
    assert len({(run.pretraining, run.task) for run in runs.values()}) == 1
    assert {run.batch_size * run.n for run in runs.values()} == {STUDY.presets["smoke"].batch_size}
