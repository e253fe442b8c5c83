"""Every drawing is checked, written and told in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dsgd.cli.drawing import check_drawing, write_drawing
from dsgd.config import ConfigError
from dsgd.graph_drawings import draw_graph
from topologies import Topology

if TYPE_CHECKING:
    from pathlib import Path

    from dsgd.figures import Figure


@pytest.fixture
def figure() -> Figure:
    return draw_graph(Topology("ring", 4).graph_object(), "A ring", kind="ring")


def test_a_drawing_replaces_what_was_there_and_is_told_on_stderr(
    figure: Figure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.svg"
    path.write_text("old")
    check_drawing(path, "--out")
    write_drawing(figure, path, "--out")
    assert path.read_text().startswith("<svg")
    assert capsys.readouterr() == ("", f"drawn: {path}\n")
    assert [found.name for found in tmp_path.iterdir()] == ["a.svg"]


def test_where_nothing_can_be_drawn_the_option_is_named(figure: Figure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--plot: .*a\.png does not end in \.svg; give a name that does$"):
        check_drawing(tmp_path / "a.png", "--plot")
    with pytest.raises(ConfigError, match=r"^--plot: .*gone is not a folder; make it first$"):
        check_drawing(tmp_path / "gone" / "a.svg", "--plot")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ConfigError, match=r"^--out: .*folder\.svg cannot be written: Is a directory$"):
        write_drawing(figure, tmp_path / "folder.svg", "--out")
    assert [found.name for found in tmp_path.iterdir()] == ["folder.svg"]
