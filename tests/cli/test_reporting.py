"""A run's page shows what its folder holds, loads nothing, and refuses in a line what it cannot make."""

from __future__ import annotations

import csv
import html.parser
import json
import re
import shlex
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from dsgd import cli
from dsgd.cli import reporting
from dsgd.cli.browser import NAMES
from dsgd.config import load
from dsgd.config.overrides import with_overrides
from dsgd.locks import locked
from dsgd.results import RunFolder, read_history, to_json
from tests.cli.small import SMALL
from tests.conftest import Dsgd

HOSTILE = "<script>alert('x')</script><img src=x onerror=\"alert(1)\"> {{ 7*7 }}"
TWINS = ["twins=[centralized]", "snapshot_every=2"]


class Reader(html.parser.HTMLParser):
    """Every element with its attributes, and the text between but for styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four replicas and a twin, finished."""
    folder = tmp_path_factory.mktemp("report") / "small"
    assert cli.main(["run", *SMALL, *TWINS, "--out", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "small")
    return tmp_path / "small"


def page_of(folder: Path) -> Reader:
    return Reader((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_shows_curves_network_tables_and_how_to_repeat_the_run(dsgd_command: Dsgd, folder: Path) -> None:
    status, out, _ = dsgd_command("report", "small", "--json")
    assert (status, json.loads(out)) == (0, {"run_dir": "small", "status": "ok", "report": "small/report.html"})
    page = page_of(folder)
    named = [attrs["data-name"] for tag, attrs in page.elements if tag == "figure"]
    main = ["Test accuracy", "Test loss", "Train accuracy", "Train loss", "Distance to the mean model", "Learning rate"]
    graphs = [f"Graph: ring, n = 4: {quantity}" for quantity in ("distance to the mean", "test loss")]
    frames = [json.loads(attrs["data-frames"]) for _, attrs in page.elements if attrs.get("data-frames")]
    assert [one["names"] for one in frames] == [["step 0", "step 2", "step 4"]] * 2
    assert named[:9] == [*main, *graphs, "Spectrum of W"]
    tables = [attrs["data-name"] for tag, attrs in page.elements if tag == "table"]
    assert tables == ["Latest values", "Measurements", "Replicas", "Network", "Configuration", "Events"]
    text = " ".join(page.text.split())
    assert "Finished: 4 of 4 steps" in text
    assert "replicas (mean to worst)" in text
    assert "spectral gap0.6667of W" in text
    assert "learning_rate.lr" in text
    (command,) = re.findall(r"dsgd run (task=digits .*?\])", text)
    assert "model.widths=[4]" in command


def test_the_command_on_the_page_is_the_run_s(folder: Path) -> None:
    made = reporting.made(reporting.record_of(folder))
    said = shlex.split(made.command)
    assert said[:2] == ["dsgd", "run"]
    assert load(None, said[2:]) == load(folder / "config.yaml")
    assert not with_overrides({}, said[2:])[1]


def test_tables_as_csv_hold_every_digit(dsgd_command: Dsgd, folder: Path) -> None:
    status, out, _ = dsgd_command("report", "small", "--csv", "tables", "--svg", "figures")
    assert status == 0
    assert "tables" in out
    with Path("tables/measurements.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    history = read_history(folder)
    assert [{k: float(v) for k, v in row.items() if v} for row in rows] == [
        {k: v for k, v in row.items() if v is not None and not isinstance(v, list)} for row in history
    ]
    with Path("tables/replicas.csv").open(encoding="utf-8", newline="") as lines:
        (names, *found) = csv.reader(lines)
    assert names == ["step", "replica", "distance to the mean", "test loss"]
    each = (zip(row["replica_distances"], row["replica_test_losses"], strict=True) for row in history)
    expected = [
        (row["step"], j, *pair) for row, pairs in zip(history, each, strict=True) for j, pair in enumerate(pairs)
    ]
    assert [tuple(map(float, row)) for row in found] == expected
    assert {"test-loss.svg", "spectrum-of-w.svg", "graph-ring-n-4-distance-to-the-mean.svg"} <= {
        p.name for p in Path("figures").iterdir()
    }


def test_a_run_that_did_not_end_has_a_page_that_says_so(dsgd_command: Dsgd, folder: Path) -> None:
    for name in ("summary.json", "ensemble.safetensors", "env.json"):
        (folder / name).unlink()
    (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text().split("\n")[0] + '\n{"step": 2, "lo')
    assert dsgd_command("report", "small")[0] == 0
    text = page_of(folder).text
    assert "Not finished, and no process is at it: 0 of 4 steps." in text
    assert 'class="verdicts calm"' not in (folder / "report.html").read_text()


def test_a_configuration_of_parts_that_are_not_here_has_a_page_without_network(
    dsgd_command: Dsgd, folder: Path
) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("name: mlp", "name: elsewhere"))
    assert dsgd_command("report", "small")[0] == 0
    page = page_of(folder).text
    assert "The network is not shown, for config.yaml could not be read: model.name: 'elsewhere' is unknown" in page
    assert "dsgd run small/config.yaml" in page


def hostile(folder: Path) -> None:
    """Puts a hostile text wherever a folder holds one."""
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        config + f"{to_json(HOSTILE)}: {to_json(HOSTILE)}\ntwinned: [{to_json(HOSTILE)}]\n"
    )
    rows = read_history(folder)
    (folder / "metrics.jsonl").write_text("".join(to_json({**row, HOSTILE: 1, "\u0000": 2}) + "\n" for row in rows))
    RunFolder(folder).event(HOSTILE, sentence=HOSTILE, other=HOSTILE)
    RunFolder(folder).fail(RuntimeError(HOSTILE), data_sha256=HOSTILE, seconds=HOSTILE)
    env = {"platform": HOSTILE, "versions": {HOSTILE: HOSTILE}, "git": HOSTILE, "device": HOSTILE}
    (folder / "env.json").write_text(to_json(env))


def check_inert(page: str, read: Reader) -> None:
    """Loads nothing, holds no script but its own, and no element of a hostile text."""
    tags = [tag for tag, _ in read.elements]
    assert not {"img", "iframe", "object", "link", "base", "a"} & {*tags}
    assert tags.count("script") == 1
    (own,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert own.startswith('"use strict"')
    for _, attrs in read.elements:
        assert not [name for name in attrs if name.startswith("on")]
        outside = [attrs[name] for name in ("src", "href", "xlink:href", "srcset", "action") if attrs.get(name)]
        assert all(str(value).startswith(("#", "data:image/png;base64,")) for value in outside)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|https?:", style[1])


def test_hostile_texts_are_shown_as_the_text_they_are(dsgd_command: Dsgd, folder: Path) -> None:
    hostile(folder)
    assert dsgd_command("report", "small")[0] == 0
    page = (folder / "report.html").read_text()
    read = Reader(page)
    check_inert(page, read)
    assert read.text.count(HOSTILE) >= 8


REFUSED: dict[str, tuple[list[str], str]] = {
    "no folder": (["gone"], "^gone: no such folder; give the folder of a run$"),
    "no run": (["."], r"^\. is not the folder of a run: it lacks config.yaml and metrics.jsonl$"),
    "csv": (["small", "--csv", "small"], "^--csv: small is not empty: give a new or empty folder$"),
    "svg": (["small", "--svg", "small"], "^--svg: small is not empty: give a new or empty folder$"),
    "one folder": (["small", "--csv", "a", "--svg", "a"], "^--svg: a is also the folder of --csv; give another$"),
    "page": (["small", "--out", "a.txt"], "^--out: a.txt does not end in .html; give a name that does$"),
    "nowhere": (["small", "--out", "a/b.html"], "^--out: a is not a folder; make it first$"),
    "pdf": (["small", "--pdf", "a.txt"], "^--pdf: a.txt does not end in .pdf; give a name that does$"),
    "browser": (
        ["small", "--pdf", "a.pdf"],
        "^--pdf: needs Chromium, and none of chromium, .* is on PATH; install one",
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_made_is_refused_and_nothing_is_written(
    dsgd_command: Dsgd, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    before = sorted(folder.parent.rglob("*"))
    status, out, err = dsgd_command("report", *arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(expected, err)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("config.yaml", "a: [", "config.yaml: not valid YAML"),
        ("config.yaml", "- a", "config.yaml holds no configuration"),
        ("metrics.jsonl", "{}\n", "metrics.jsonl, line 1, has no step that is a whole number"),
        ("metrics.jsonl", "x\n", "metrics.jsonl, line 1, is not JSON"),
    ],
)
def test_a_damaged_file_is_named(dsgd_command: Dsgd, folder: Path, name: str, text: str, expected: str) -> None:
    (folder / name).write_text(text)
    status, out, err = dsgd_command("report", "small")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert expected in err
    assert not (folder / "report.html").exists()


def test_a_study_s_folder_is_told_its_page(dsgd_command: Dsgd, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "study.json").write_text("{}")
    assert dsgd_command("report", "study")[::2] == (
        2,
        "study holds no report yet; dsgd study writes it when its runs are done\n",
    )
    (study / "report.html").write_text("<p>")
    assert dsgd_command("report", "study", "--json") == (
        0,
        to_json({"study_dir": "study", "report": "study/report.html"}, indent=2) + "\n",
        "",
    )
    status, _, err = dsgd_command("report", "study", "--csv", "tables")
    assert (status, err.partition(";")[0]) == (2, "--csv: study is a study's, whose report dsgd study writes")


def test_watching_ends_with_the_run_and_leaves_a_page_that_stays(
    dsgd_command: Dsgd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    ended = threading.Event()

    def holding() -> None:
        with locked(folder):
            ended.wait(60)

    holder = threading.Thread(target=holding)
    holder.start()
    while not reporting.is_running(folder):
        pass

    def asleep(path: Path) -> None:
        pages.append((path / "report.html").read_text())
        ended.set()
        holder.join()

    monkeypatch.setattr(reporting, "_sleep_while_running", asleep)
    status, out, err = dsgd_command("report", "small", "--watch", "--json")
    assert (status, json.loads(out)["status"]) == (0, "ok")
    assert err.startswith("watching small until the run ends")
    (during,) = pages
    assert '<meta http-equiv="refresh" content="5">' in during
    assert "Running: 4 of 4 steps." in during
    assert 'http-equiv="refresh"' not in (folder / "report.html").read_text()


BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


def in_chromium(page: Path, profile: Path) -> tuple[str, str]:
    """What Chromium made of a page, and what it logged."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--enable-logging=stderr"]
    command = [str(BROWSER), *options, "--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_page_opens_in_chromium_without_a_word_on_its_console(
    dsgd_command: Dsgd, folder: Path, tmp_path: Path
) -> None:
    assert dsgd_command("report", "small", "--pdf", "a.pdf")[0] == 0
    assert Path("a.pdf").read_bytes().startswith(b"%PDF")
    made, logged = in_chromium(folder / "report.html", tmp_path / "profile")
    assert "CONSOLE" not in logged
    assert 'aria-label="Save Measurements as CSV"' in made  # the script ran
    text = (folder / "report.html").read_text()
    (tmp_path / "bad.html").write_text(text.replace("</body>", "<script>1</script></body>"))
    assert "CONSOLE" in in_chromium(tmp_path / "bad.html", tmp_path / "profile")[1]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_graph_can_be_stepped_through(dsgd_command: Dsgd, folder: Path, tmp_path: Path) -> None:
    """To the start, where all replicas are equal and so have one colour."""
    assert dsgd_command("report", "small")[0] == 0
    text = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", (folder / "report.html").read_text())
    back = """for (const slider of document.querySelectorAll("input[type=range]")) {
        slider.value = 0; slider.dispatchEvent(new Event("input")); }"""
    (tmp_path / "moved.html").write_text(text.replace("</body>", f"<script>{back}</script></body>"))
    colours = []
    for page in (folder / "report.html", tmp_path / "moved.html"):
        made = in_chromium(page, tmp_path / "profile")[0]
        (graph,) = re.findall(r'<figure data-name="Graph: ring, n = 4: distance to the mean".*?</figure>', made, re.S)
        colours.append(re.findall(r"<use[^>]*fill: (#\w+|rgb.*?\));", graph))
        assert f"distance to the mean at step {4 * (page.name == 'report.html')}." in graph
    assert len(set(colours[0])) > 1
    assert len(colours[1]) == 4
    assert set(colours[1]) <= {"#440154", "rgb(68, 1, 84)"}  # the first of the scale


def test_the_script_sorts_numbers_as_numbers() -> None:
    """What a cell shows is rounded; what it is sorted and saved by is not."""
    from dsgd.pages import exact

    cells: list[Any] = [None, 0.12345678, 3, -1.5, "ring", "lr^2"]
    assert [exact(cell) for cell in cells] == ["", "0.12345678", None, "-1.5", None, "lr^2"]
