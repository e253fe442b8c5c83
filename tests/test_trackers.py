"""Trackers hear of every row, and one that fails is said once and never stops a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dsgd
from dsgd.metrics import Accuracy, Consensus, Landscape
from dsgd.run import Run
from dsgd.trackers import TRACKERS, check_tracker, known_ids, track

Make = Callable[..., Run]


class Heard(list[tuple[Any, ...]]):
    """What a library was asked, and from which call on it fails."""

    fails = ""
    error: BaseException = ConnectionError("no\nnetwork")

    def hear(self, what: str, *about: Any) -> None:
        if what == self.fails:
            raise self.error
        self.append((what, *about))

    def rows(self) -> list[tuple[int, dict[str, float]]]:
        return [(step, numbers) for what, step, numbers in (one for one in self if one[0] == "row")]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """All three libraries replaced by ones that say what they were asked in the same words."""
    heard = Heard()

    class Writer:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            heard.hear("start", purge_step)
            self.now: dict[str, float] = {}

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.now, self.step = {**self.now, name: value}, step

        def add_text(self, name: str, text: str, step: int) -> None:
            heard.hear("config" if name == "config" else "note", name, step)

        def flush(self) -> None:
            heard.hear("row", self.step, self.now)
            self.now = {}

        def close(self) -> None:
            heard.hear("end")

    class WandbRun:
        id = "w1"

        def __init__(self, **how: Any) -> None:
            heard.hear("start", how["id"])
            heard.hear("config", how["config"])
            self.summary = Notes()

        def log(self, numbers: dict[str, float], step: int) -> None:
            heard.hear("row", step, numbers)

        def finish(self, exit_code: int) -> None:
            heard.hear("end", exit_code)

    class Notes(dict[str, str]):
        def __setitem__(self, name: str, text: str) -> None:
            heard.hear("note", name)

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            heard.hear("start", name)

        def create_experiment(self, name: str) -> str:
            return "e1"

        def create_run(self, experiment: str, run_name: str) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id="m1"))

        def update_run(self, run_id: str, status: str) -> None:
            heard.hear("start", run_id)

        def log_batch(self, run_id: str, params: Any = (), metrics: Any = ()) -> None:
            if params:
                heard.hear("config", dict(params))
            else:
                heard.hear("row", metrics[0][3], {name: value for name, value, _, _ in metrics})

        def set_tag(self, run_id: str, name: str, text: str) -> None:
            heard.hear("note", name)

        def set_terminated(self, run_id: str, status: str) -> None:
            heard.hear("end", status)

    entities = {"Param": lambda name, value: (name, value), "Metric": lambda *about: about}
    modules: dict[str, dict[str, Any]] = {
        "tensorboard": {},
        "torch.utils.tensorboard": {"SummaryWriter": Writer},
        "wandb": {"init": WandbRun, "Settings": dict},
        "mlflow": {"MlflowClient": Client},
        "mlflow.entities": entities,
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, origin="made up")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return heard


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_hears_all_numbers_of_all_rows_and_the_end(
    small: Make, heard: Heard, tmp_path: Path, name: str
) -> None:
    run = small(steps=4, measure_every=2, metrics=(Consensus(), Accuracy(), Landscape(points=2)))
    result = dsgd.train(run, observers=[track(name, run, tmp_path / "run")])
    assert [step for step, _ in heard.rows()] == [0, 2, 4]
    for (_, told), row in zip(heard.rows(), result.history, strict=True):
        assert told == {k: v for k, v in row.items() if isinstance(v, float | int) and k != "step"}
    assert [what for what, *_ in heard if what != "row"] == ["start", "config", "end"]
    assert known_ids(tmp_path / "run") == {name: {"tensorboard": None, "wandb": "w1", "mlflow": "m1"}[name]}


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("fails", ["start", "config", "row", "end"])
def test_one_that_fails_is_said_once_and_the_run_goes_on(
    small: Make, heard: Heard, tmp_path: Path, name: str, fails: str
) -> None:
    heard.fails = fails
    run, said = small(steps=4, measure_every=2), list[str]()
    result = dsgd.train(run, observers=[track(name, run, tmp_path, tell=said.append)])
    assert len(result.history) == 3
    after = 4 if fails == "end" else 0
    assert said == [f"tracking by {name} ended after {after} steps, the run goes on: ConnectionError: no network"]


@pytest.mark.parametrize("fails", ["start", "row", "end"])
def test_one_that_exits_ends_no_run(small: Make, heard: Heard, tmp_path: Path, fails: str) -> None:
    heard.fails, heard.error = fails, SystemExit("not logged in")
    run, said = small(steps=4, measure_every=2), list[str]()
    result = dsgd.train(run, observers=[track("wandb", run, tmp_path, tell=said.append)])
    assert len(result.history) == 3
    assert [sentence.partition(": ")[2] for sentence in said] == ["SystemExit: not logged in"]


def test_without_a_listener_it_is_a_warning(small: Make, heard: Heard, tmp_path: Path) -> None:
    heard.fails = "start"
    with pytest.warns(RuntimeWarning, match="tracking by mlflow ended after 0 steps, the run goes on"):
        track("mlflow", small(), tmp_path)


@pytest.mark.parametrize("name", TRACKERS)
def test_events_are_told_and_a_run_that_goes_on_goes_on_there(
    small: Make, heard: Heard, tmp_path: Path, name: str
) -> None:
    first = track(name, small(), tmp_path)
    first.stepped(7)
    first.event("place_lost", sentence="gone", step=4)
    with pytest.raises(KeyboardInterrupt), first:
        raise KeyboardInterrupt
    track(name, small(), tmp_path, step=7).close("failed")
    told = [one for one in heard if one[0] != "config"]
    note = ("note", "place_lost", 7) if name == "tensorboard" else ("note", "place_lost_at_7")
    starts, ends = {
        "tensorboard": ([None, 8], [(), ()]),
        "wandb": ([None, "w1"], [(1,), (1,)]),
        "mlflow": (["dsgd", "m1"], [("KILLED",), ("FAILED",)]),
    }[name]
    assert told == [("start", starts[0]), note, ("end", *ends[0]), ("start", starts[1]), ("end", *ends[1])]


def test_a_tracker_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^'tensorbord' is unknown; allowed are tensorboard, wandb, mlflow$"):
        check_tracker("tensorbord")
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=r'^wandb is not installed; pip install "dsgd\[track\]", or wandb alone$'
    ):
        check_tracker("wandb")


def of_tensorboard(folder: Path) -> dict[int, float]:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reading.EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in found.Scalars("consensus_distance")}


def of_mlflow(folder: Path) -> dict[int, float]:
    client = pytest.importorskip("mlflow").MlflowClient()
    id = json.loads((folder / "trackers.json").read_text())["mlflow"]
    assert client.get_run(id).info.status == "FINISHED"
    return {metric.step: metric.value for metric in client.get_metric_history(id, "consensus_distance")}


@pytest.mark.parametrize(("name", "kept"), [("tensorboard", of_tensorboard), ("mlflow", of_mlflow)])
def test_the_real_ones_keep_what_was_measured(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: Callable[[Path], dict[int, float]]
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run, said = small(steps=4, measure_every=2), list[str]()
    history = dsgd.train(run, observers=[track(name, run, tmp_path, tell=said.append)]).history
    assert said == []
    assert kept(tmp_path) == pytest.approx({row["step"]: row["consensus_distance"] for row in history}, rel=1e-6)


@pytest.mark.parametrize(("mode", "files"), [("offline", 1), ("disabled", 0)])
def test_the_real_wandb_needs_no_network(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, files: int
) -> None:
    pytest.importorskip("wandb").teardown()  # it reads its mode once a process
    monkeypatch.setenv("WANDB_MODE", mode)
    run, said = small(steps=4, measure_every=2), list[str]()
    dsgd.train(run, observers=[track("wandb", run, tmp_path, tell=said.append)])
    assert said == []
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == files
