"""A report shows what was found, loads and runs nothing, and shows hostile names as the text they are."""

from __future__ import annotations

import base64
import hashlib
import html
import html.parser
import re

import pytest

from dsgd import pages, report
from dsgd.figures import Figure
from dsgd.report import Table, render_html, render_markdown

HOSTILE = "<script>alert('x')</script><img src=x onerror=\"alert(1)\"> & {{ 7*7 }}"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M 0 0"/></svg>'
HARMLESS = {"meta", "line", "rect", "circle", "path"}


def a_claim(**changed):
    whole = {
        "name": "residual slope",
        "kind": "claim",
        "estimate": 3.01,
        "ci": [2.98, 3.04],
        "criterion": "3.0 ± 0.15",
        "verdict": "supported",
        "half_width": 0.03,
        "margin": 0.14,
        "n": 5,
        "low": 2.85,
        "high": 3.15,
    }
    return whole | changed


def a_summary(*claims, **changed):
    whole = {
        "study": "equivalence",
        "preset": "standard",
        "claims": list(claims) or [a_claim()],
        "command": "dsgd study equivalence --preset standard --seed 0",
        "seed": 0,
        "versions": {"python": "3.11", "torch": None},
        "git": None,
        "question": "Is D-SGD average-direction SAM?",
        "seeds": 5,
        "runs": 20,
        "trained": 12,
        "run_seconds": 200.0,
        "machine": {"python": "3.11", "platform": "Linux", "cpus": 2, "device": "cpu"},
        "seconds": 7.41,
    }
    return whole | changed


class Reader(html.parser.HTMLParser):
    """Collects every element with its attributes, and the text between."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def hostile_page():
    claim = a_claim(name=HOSTILE, criterion=HOSTILE)
    table = Table(HOSTILE, (HOSTILE, "b"), [(HOSTILE, 1.0)], HOSTILE)
    summary = a_summary(claim, question=HOSTILE, study=HOSTILE, preset=HOSTILE, command=HOSTILE, git=HOSTILE)
    return render_html(summary, [table], [Figure(HOSTILE, SVG, HOSTILE)], [HOSTILE])


def test_hostile_names_are_shown_as_text_everywhere():
    read = Reader(hostile_page())
    assert {tag for tag, _ in read.elements}.isdisjoint({"img", "iframe", "object", "link", "base", "a"})
    assert not [name for _, attrs in read.elements for name in attrs if name.startswith("on")]
    assert read.text.count(HOSTILE) >= 10
    assert "{{ 7*7 }}" in read.text
    labels = [attrs["aria-label"] for tag, attrs in read.elements if tag == "svg" and "aria-label" in attrs]
    assert labels[0].endswith(HOSTILE)


def test_the_page_loads_nothing_and_forbids_what_could():
    page = hostile_page()
    read = Reader(page)
    (policy,) = [attrs["content"] for _, attrs in read.elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    assert script == (pages.TEMPLATES / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; base-uri" in policy
    assert 'http-equiv="refresh"' not in page
    assert not [attrs for _, attrs in read.elements if {"src", "href", "srcset", "action"} & attrs.keys()]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<script>alert(1)</script>", r"holds <script>; only plain drawing elements"),
        ("<style>*{display:none}</style>", r"holds <style>"),
        ("<foreignObject><p>x</p></foreignObject>", r"holds <foreignObject>"),
        ('<path onclick="alert(1)"/>', r"holds onclick='alert\(1\)'"),
        ('<use href="https://evil.example/x.svg#a"/>', r"holds href='https://evil"),
        ('<image href="data:text/html,x"/>', r"holds href='data:text/html"),
        ("<path>", r"cannot be read"),
        ('<!--><meta http-equiv="refresh" content="0;url=https://evil.example/">-->', r"holds '<!-->"),
        ('<?x ><img src="https://evil.example/">?>', r"holds '<\?x"),
        ("<desc><g><![CDATA[<script>alert(1)</script>]]></g></desc>", r"holds '<!\[CDATA"),
        ('<path fill="url(https://evil.example/x.svg#a)"/>', r"holds 'url\(https"),
        ('<path style="fill: URL( //evil.example)"/>', r"holds 'URL\( //evil"),
    ],
)
def test_a_figure_that_does_more_than_draw_is_refused(inside, message):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{inside}</svg>'
    with pytest.raises(ValueError, match=message):
        render_html(a_summary(), figures=[Figure("f", svg)])


def test_the_page_shows_claims_tables_figures_notes_and_how_it_was_run():
    table = Table("Runs", ("graph", "lr"), [("ring", 0.1), ("grid", None)], "All runs.")
    page = render_html(a_summary(), [table], [Figure("Drawn", SVG, "A caption.")], ["A note."])
    text = " ".join(Reader(page).text.split())
    for shown in (
        "1 of 1 claim supported.",
        "[2.980, 3.040]",
        "n = 5",
        "3.0 ± 0.15",
        "All runs.",
        "A caption.",
        "A note.",
    ):
        assert shown in text
    assert "dsgd study equivalence --preset standard --seed 0" in text
    assert "python 3.11, torch unknown" in text
    assert "20, whose training took 3 min 20 s in all" in text
    assert "7.4 s: 12 trained, 8 reused" in text
    assert SVG in page


def test_markdown_shows_figures_by_their_files():
    figures = [Figure("|G_A - g| and s^2", SVG, "A [caption]."), Figure("Bare", SVG), Figure(HOSTILE, SVG)]
    text = render_markdown(a_summary(), figures=figures)
    shown = (
        "### \\|G_A − g\\| and s²\n\n![\\|G_A − g\\| and s²](figures/g-a-g-and-s-2.svg)\n\nA \\[caption\\].\n\n### Bare"
    )
    assert f"## Figures\n\n{shown}\n\n![Bare](figures/bare.svg)\n\n### " in text
    assert re.findall(r"\]\(figures/([^)]*)\)", text)[2] == "script-alert-x-script-img-src-x-onerror-alert-1-7-7.svg"
    assert "<" not in text.replace("\\<", "")
    assert "## Figures" not in render_markdown(a_summary())


def test_columns_of_numbers_are_known_by_their_cells():
    table = Table("t", "abcde", [(1, "0.5", "ring", None, "1 to 2"), (2.5, "-1e-5", "3", 4, "2")])
    assert table.numeric == {0, 1, 3}


def test_no_claims_make_a_page_too():
    assert "This study makes no claims." in render_html(a_summary() | {"claims": []})
    assert "This study makes no claims." in render_markdown(a_summary() | {"claims": []})


def test_an_inconclusive_verdict_tells_half_width_and_margin():
    summary = a_summary(a_claim(verdict="inconclusive", margin=0.01))
    assert "half-width 0.030, margin 0.010" in render_html(summary)
    assert "inconclusive (half-width 0.030, margin 0.010)" in render_markdown(summary)


def test_where_only_the_other_claims_leave_a_verdict_open_their_p_is_told():
    summary = a_summary(a_claim(verdict="inconclusive", p_inside=0.0412, p_outside=1.0))
    told = "p 0.041 among the study's claims, not below 0.0294; its own interval is clear of the bound"
    assert f"inconclusive ({told})" in render_markdown(summary)
    assert told.replace("'", "&#39;") in render_html(summary)


def test_a_single_value_is_labelled_and_has_no_interval():
    summary = a_summary(a_claim(n=1, ci=[None, None], half_width=None, verdict="inconclusive"))
    text = Reader(render_html(summary)).text
    assert "n = 1" in text
    assert "None" not in text


def test_unavailable_measurements_are_told_and_a_claim_without_a_value_is_shown():
    lacking = a_claim(n=5, unavailable=2, measurements=20)
    nothing = a_claim(estimate=None, ci=[None, None], half_width=None, margin=None, n=0, verdict="inconclusive")
    summary = a_summary(lacking, nothing | {"unavailable": 5, "measurements": 5})
    for text in (Reader(render_html(summary)).text, render_markdown(summary)):
        assert "2 of 20 unavailable" in text
        assert "5 of 5 unavailable" in text
        assert "None" not in text


def test_markdown_cells_cannot_break_out():
    text = render_markdown(a_summary(a_claim(name="a | b\n# c <script> [x](y) `z`")), [Table("t", ("x",), [("p|q",)])])
    assert r"a \| b \# c &lt;script&gt; \[x\](y) \`z\`" in text
    assert r"p\|q" in text
    rows = [line for line in text.splitlines() if line.startswith("| ✓")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 9


@pytest.mark.parametrize(
    ("verdicts", "sentences"),
    [
        ([], ["This study makes no claims."]),
        ([("claim", "supported")], ["1 of 1 claim supported."]),
        (
            [("claim", "supported"), ("claim", "refuted"), ("claim", "inconclusive"), ("control", "supported")],
            ["1 of 3 claims supported (1 refuted, 1 inconclusive).", "1 of 1 control behaved as a control must."],
        ),
    ],
)
def test_the_headline_counts(verdicts, sentences):
    assert report.headline([{"kind": kind, "verdict": verdict} for kind, verdict in verdicts]) == sentences


def test_the_headline_says_that_smoke_shows_nothing_else():
    assert report.headline([a_claim()], "smoke") == [report.SMOKE, *report.headline([a_claim()])]
    assert report.headline([a_claim()], "standard") == report.headline([a_claim()])


def test_the_headline_says_that_one_value_is_no_test():
    told = report.headline([a_claim(), a_claim(n=1), a_claim(kind="control", n=1)])
    assert told[2:] == ["2 of these 3 verdicts compare one value; only more seeds are a test."]


def test_the_strip_keeps_everything_in_sight_and_in_order():
    at = report.strip(a_claim())
    assert 0 < at["low"] < at["lo"] < at["dot"] < at["hi"] < at["high"] < report.STRIP_WIDTH
    one_sided = report.strip(a_claim(low=None))
    assert one_sided["low"] == 0
    exact = report.strip(a_claim(estimate=0.0, ci=[None, None], low=0.0, high=0.0))
    assert exact["dot"] == exact["lo"] == exact["hi"] == exact["low"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (-0.123456, "−0.1235"), (1234567, "1234567"), ("-", "-"), (1e-12, "1e−12")],
)
def test_numbers_are_short(value, text):
    assert report.number(value) == text


def test_formulas_are_in_print_on_the_page_and_as_typed_in_the_summary():
    claim = a_claim(name="|G_A - g| <b>", criterion="lr^2 is 2.0 +- 0.1")
    summary = a_summary(claim, answer="First, s <= 1.\n\nSecond.")
    definitions = {"G_sym": "of Xi"}
    page = render_html(summary, definitions=definitions)
    for shown in (
        "|G<sub>A</sub>\u00a0− g| &lt;b&gt;<",
        "lr² is 2.0\u00a0±\u00a00.1",
        '<p class="answer">First, s ≤ 1.</p>\n<p class="answer">Second.</p>',
        "<dt>G<sub>sym</sub></dt><dd>of Ξ</dd>",
    ):
        assert shown in page
    text = render_markdown(summary, definitions=definitions)
    for shown in (
        "G_A − g",
        "lr² is 2.0 ± 0.1",
        "First, s ≤ 1.\n\nSecond.\n",
        "## Symbols\n\n- **G_sym**: of Ξ",
    ):
        assert shown in text
    assert claim["criterion"] == "lr^2 is 2.0 +- 0.1"


def test_controls_are_explained_where_there_are_some():
    for render in (render_html, render_markdown):
        assert "violates a claim's assumptions on purpose" not in html.unescape(render(a_summary()))
        with_control = a_summary(a_claim(), a_claim(kind="control"))
        assert "violates a claim's assumptions on purpose" in html.unescape(render(with_control))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, ""),
        ({"low": None}, "one-sided test"),
        ({"estimate": 3.0, "ci": [3.0, 3.0]}, "every value is 3: compared, not tested"),
        ({"estimate": 3.0, "n": 1, "ci": [None, None]}, "the only value is 3: compared, not tested"),
        ({"estimate": 3.0, "ci": [3.0, 3.0], "verdict": "inconclusive"}, ""),
        ({"n": 0, "estimate": None, "ci": [None, None], "verdict": "inconclusive"}, ""),
    ],
)
def test_a_verdict_says_when_it_rests_on_something_else_than_two_tests(changed, text):
    claim = a_claim(**changed)
    assert report.tested(claim) == text
    assert text in render_html(a_summary(claim))
    assert text in render_markdown(a_summary(claim))


def test_a_band_without_a_bound_is_drawn_open():
    assert 'class="open"' not in render_html(a_summary())
    page = render_html(a_summary(a_claim(high=None)))
    assert (page.count('class="open"'), page.count('class="bound"')) == (1, 1)


@pytest.mark.parametrize(
    ("trained", "text"), [(20, ": 20 trained<"), (0, ": 20 reused<"), (3, ": 3 trained, 17 reused<")]
)
def test_the_time_says_what_was_trained_in_it(trained, text):
    assert text in render_html(a_summary(trained=trained))
