"""`dsgd doctor`, and the versions that dsgd asks for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from dsgd.cli import machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Dsgd
from tests.cli.small import SMALL


def test_the_doctor_reports_and_changes_nothing(dsgd_command: Dsgd, tmp_path: Path) -> None:
    status, out, _ = dsgd_command("doctor", "--json")
    found = json.loads(out)
    assert (status, found["data"]["digits"], found["runs_writable"]) == (0, "found", True)
    assert "make data" in found["data"]["fashion_mnist"]
    assert found["packages"]["torch"] == torch.__version__
    assert not list(tmp_path.iterdir())
    assert "packages.torch" in dsgd_command("doctor")[1]


@pytest.mark.parametrize(
    ("version", "warns"), [("2.6.0", False), ("2.13.1+cpu", False), ("2.14.0", True), ("3.0.0a1", True)]
)
def test_a_newer_torch_is_warned_about_and_not_refused(
    dsgd_command: Dsgd, monkeypatch: pytest.MonkeyPatch, version: str, warns: bool
) -> None:
    monkeypatch.setattr(machine, "installed", lambda package: version)
    status, _, err = dsgd_command("run", *SMALL, "steps=1")
    assert status == 0
    assert err.count("is newer than any that dsgd was tested with (torch<2.14,>=2.6)") == warns


def test_without_its_package_s_metadata_dsgd_asks_for_any_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "requires", lambda package: None)
    assert machine.torch_warning() is None
    monkeypatch.setattr(machine, "installed", lambda package: None)
    assert machine.torch_warning() == "torch is not installed: pip install 'torch'"
