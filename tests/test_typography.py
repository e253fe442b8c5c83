"""Numbers of one claim agree in their decimals; formulas typed in ASCII are set in print; durations are short."""

from __future__ import annotations

import pytest

from dsgd.typography import cut, duration, symbols, written


@pytest.mark.parametrize(
    ("estimate", "lo", "hi", "text"),
    [
        (2.0, 2.0, 2.0, "2.000 [2.000, 2.000]"),
        (2.99992, 2.99931, 3.00053, "3.000 [2.999, 3.001]"),
        (1.2024, 0.33011, 2.0748, "1.20 [0.33, 2.07]"),
        (0.0025977, -0.011702, 0.016898, "0.003 [-0.012, 0.017]"),
        (0.008024, 0.0070623, 0.0089856, "0.00802 [0.00706, 0.00899]"),
        (0.0, 0.0, 0.0, "0.000 [0.000, 0.000]"),
        (-0.0001, -0.21, 0.21, "0.00 [-0.21, 0.21]"),
        (1234.5, 1234.0, 1235.0, "1234.50 [1234.00, 1235.00]"),
        (1e-12, 9e-13, 1.1e-12, "1e-12 [9e-13, 1.1e-12]"),
        (3.01, None, None, "3.010 "),
    ],
)
def test_the_numbers_of_a_claim_have_the_decimals_of_its_half_width(estimate, lo, hi, text):
    found = written({"estimate": estimate, "ci": [lo, hi], "margin": 0.5})
    assert f"{found['estimate']} {found['interval']}" == text


def test_half_width_and_margin_have_them_too():
    found = written({"estimate": 3.01, "ci": [2.98, 3.04], "margin": 0.14})
    assert (found["half_width"], found["margin"]) == ("0.030", "0.140")
    assert written({"estimate": 3.01, "ci": None})["margin"] == ""


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("|G_A - g| in s is 2 +- 0.1", "|G_A − g| in s is 2 ± 0.1"),
        ("Tr Xi / (lr^2 sigma^2) <= 10^-5", "Tr Ξ / (lr² σ²) ≤ 10⁻⁵"),
        ("w_j - w = delta_j, 32 x 32, lr * steps", "w_j − w = δ_j, 32 × 32, lr · steps"),
        ("[-0.2, 1], D-SGD, x86-64, 2024-01-02", "[−0.2, 1], D-SGD, x86-64, 2024-01-02"),
        ("Xing beta zeta --seed a*b 2x3", "Xing beta zeta --seed a*b 2x3"),
    ],
)
def test_ascii_formulas_are_set_in_print(typed, printed):
    assert symbols(typed).replace("\u00a0", " ") == printed
    assert symbols(printed).replace("\u00a0", " ") == printed


def test_formulas_are_not_parted_before_a_sign():
    assert symbols("a - b is 2 +- 5 %") == "a\u00a0− b is 2\u00a0±\u00a05\u00a0%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (7.41, "7.4 s"), (34.4, "34 s"), (59.96, "1 min 00 s"), (200, "3 min 20 s"), (7800, "2 h 10 min")],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


def test_a_sentence_without_end_is_cut_in_its_middle():
    assert cut("x" * 500) == "x" * 500
    long = cut("begin" + "x" * 10_000 + "end")
    assert len(long) == 500
    assert long.startswith("begin")
    assert long.endswith("end")
