"""What the tests of reports share: figures that are drawn only where they are asked for."""

from __future__ import annotations

import pytest

from dsgd.study import Figure


@pytest.fixture
def drawn() -> None:
    """The test that asks for this gets figures that are drawn."""


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, which take most of a report's time, have a title alone, unless the test asks for `drawn`."""
    study = getattr(request.module, "STUDY", None)
    for kind in ("curves", "log_log", "surface"):
        if hasattr(study, kind) and "drawn" not in request.fixturenames:
            monkeypatch.setattr(study, kind, lambda title, *_, **__: Figure(title, "<svg/>"))
