"""What the tests of resuming share: a signal in the middle of a step, and a run that nothing interrupts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dsgd import cli
from dsgd.cli import recording
from tests.resume.interrupted import LONG


@pytest.fixture
def signalled(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """Sends this process a signal in the middle of a step."""

    def at(step: int, number: signal.Signals = signal.SIGTERM) -> None:
        def stepped(self: recording.Tally, done: int) -> None:
            self.steps = done
            if done == step:
                signal.raise_signal(number)

        monkeypatch.setattr(recording.Tally, "stepped", stepped)

    return at


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long run, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert cli.main(["run", *LONG, "--out", str(folder)]) == 0
    return folder
