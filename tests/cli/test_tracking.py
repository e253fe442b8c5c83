"""`--track`: trackers beside the folder, refused where they are not there, and told how a run ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsgd import trackers
from dsgd.cli.tracking import tracked
from dsgd.config import read
from dsgd.loop import Stopped
from dsgd.trackers import Start
from tests.cli.small import SMALL
from tests.conftest import Dsgd


class Heard:
    """A logger that keeps what it is told, of all that are opened."""

    told: list[tuple[object, ...]]
    fails = False
    id = "one"

    def __init__(self, start: Start) -> None:
        self.told.append(("start", start.folder.name, start.step, start.id, start.config["steps"]))
        if self.fails:
            raise OSError("unreachable")

    def log(self, step: int, numbers: object) -> None:
        self.told.append(("row", step))

    def note(self, step: int, event: str, text: str) -> None:
        self.told.append(("note", event))

    def close(self, status: str) -> None:
        self.told.append(("end", status))


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> type[Heard]:
    monkeypatch.setattr(Heard, "told", [], raising=False)
    monkeypatch.setattr(trackers, "TRACKERS", {"numpy": Heard})  # a name that is installed
    return Heard


def test_a_run_is_told_to_its_tracker_once_however_often_it_is_named(dsgd_command: Dsgd, heard: type[Heard]) -> None:
    status, _, err = dsgd_command("run", *SMALL, "--out", "a", "--track", "numpy", "--track", "numpy")
    assert (status, "warning" in err) == (0, False)
    assert heard.told == [("start", "a", None, None, 4), ("row", 0), ("row", 2), ("row", 4), ("end", "ok")]


def test_one_that_fails_is_warned_of_and_the_run_is_done(
    dsgd_command: Dsgd, heard: type[Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heard, "fails", True)
    status, out, err = dsgd_command("run", *SMALL, "--out", "a", "--track", "numpy", "--json")
    assert (status, '"status": "ok"' in out) == (0, True)
    warned = "warning: tracking by numpy ended after 0 steps, the run goes on: OSError: unreachable"
    assert [line for line in err.splitlines() if "warning" in line] == [warned]


def test_a_run_that_fails_says_so_there_and_goes_on_there(dsgd_command: Dsgd, heard: type[Heard]) -> None:
    status, _, _ = dsgd_command(
        "run", *SMALL, "model.activation=relu", "learning_rate.lr=1e38", "--out", "a", "--track", "numpy"
    )
    assert (status, heard.told[-1]) == (1, ("end", "failed"))
    heard.told.clear()
    dsgd_command("resume", "a", "--track", "numpy")
    assert heard.told[0][:2] == ("start", "a")


def test_a_run_that_is_ended_from_outside_is_interrupted_there(tmp_path: Path, heard: type[Heard]) -> None:
    class Another(Exception):
        """Of a user's own, which only has the name."""

    Another.__name__ = "Stopped"
    ends = {"interrupted": (Stopped(2), KeyboardInterrupt()), "failed": (ValueError(), Another())}
    for status, errors in ends.items():
        for error in errors:
            with pytest.raises(type(error)), tracked(["numpy"], read({"task": "digits"}), tmp_path, None):
                raise error
            assert heard.told[-1] == ("end", status)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tensorbord", "--track: 'tensorbord' is unknown; allowed are tensorboard, wandb, mlflow\n"),
        ("gone", '--track: gone is not installed; pip install "dsgd[track]", or gone alone\n'),
    ],
)
def test_a_tracker_that_is_not_there_is_refused_before_anything_is_made(
    dsgd_command: Dsgd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    if name == "gone":
        monkeypatch.setattr(trackers, "TRACKERS", {"gone": Heard})
    assert dsgd_command("run", *SMALL, "--track", name) == (2, "", expected)
    assert not list(tmp_path.iterdir())


def test_a_tracker_follows_one_run(dsgd_command: Dsgd) -> None:
    said = "Invalid value for --track: a tracker follows one run, and this is a sweep; leave it out"
    words = ("seed=0,1", "--track", "wandb")
    assert dsgd_command("run", *SMALL, *words) == (2, "", f"dsgd: {said} (see dsgd --help)\n")
