"""What `dsgd topology show` draws, and what it says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dsgd.cli.topology_facts import draw, facts
from dsgd.config import ConfigError
from topologies import Topology

if TYPE_CHECKING:
    from pathlib import Path


def test_a_drawing_is_told_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(Topology("ring", 5), tmp_path / "ring.svg")
    assert (tmp_path / "ring.svg").read_text().lstrip().startswith("<")
    assert capsys.readouterr() == ("", f"drawn: {tmp_path / 'ring.svg'}\n")


def test_a_graph_that_cannot_be_is_told_at_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^topology\.graph\.degree: must be a whole number of at least 2, not 1"):
        facts(Topology("random_regular", 8, knobs=(("degree", 1),)))
