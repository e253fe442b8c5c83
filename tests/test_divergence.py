"""A run that is no longer finite says after how many steps, and a study that asks for that can score it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dsgd.backends.local import LocalBackend
from dsgd.backends.processes import ProcessesBackend
from dsgd.divergence import Diverged
from dsgd.learning_rates import Constant
from dsgd.models import Mlp
from dsgd.packs import Pack, simulate_pack
from dsgd.results import RunFolder, read_history, read_summary
from dsgd.run import Run
from dsgd.study import Claim, Report, StudyError, conduct
from tests.conftest import Dsgd

Make = Callable[..., Run]
CPU = LocalBackend("cpu")
SENTENCE = r"\d of 4 replicas are not finite after 2 steps, the first is replica \d; lower learning_rate.lr"


class Seen:
    """An observer that keeps the steps and rows it is told of."""

    def __init__(self) -> None:
        self.steps, self.rows = list[int](), list[Any]()

    def stepped(self, step: int) -> None:
        self.steps.append(step)

    def measured(self, row: Any) -> None:
        self.rows.append(row)

    def snapshotted(self, step: int, params: Any) -> None:
        raise AssertionError(step)

    def event(self, event: str, **details: object) -> None:
        raise AssertionError(event)


@dataclass(frozen=True)
class Settings:
    seeds: int = 2
    seed: int = 0


@pytest.fixture
def far_too_large(small: Make) -> Make:
    """Runs that overflow after two steps, between two measurements."""
    return lambda **fields: small(learning_rate=Constant(1e100), model=Mlp((8,), "relu"), measure_every=5, **fields)


@pytest.fixture
def a_study(small: Make, far_too_large: Make) -> Callable[..., Any]:
    """Which of two learning rates diverge; at each the seeds are one pack. It says that it accepts this, or not."""

    def runs(settings: Settings) -> dict[str, Run]:
        makes = {"calm": small, "wild": far_too_large}
        return {f"{name} {seed}": make(seed=seed) for name, make in makes.items() for seed in range(settings.seeds)}

    def report(settings: Settings, histories: dict[str, list[Any]]) -> Report:
        def share(name: str) -> tuple[float, ...]:
            return tuple(float("diverged" in histories[f"{name} {seed}"][-1]) for seed in range(settings.seeds))

        return Report([Claim(name, "claim", share(name), 1.0, None, "all diverge") for name in ("calm", "wild")])

    def make(**declared: bool) -> Any:
        presets = {"smoke": Settings()}
        return SimpleNamespace(
            __name__="edge", question="Where is it?", presets=presets, runs=runs, report=report, **declared
        )

    return make


@dataclass(frozen=True)
class Counting(LocalBackend):
    """Keeps the runs that it trains."""

    trained: list[Run] = field(default_factory=list)

    def train(self, run: Run, *more: Any) -> Any:
        self.trained.append(run)
        return super().train(run, *more)

    def train_pack(self, runs: Any, observers: Any) -> Any:
        self.trained.extend(runs)
        return super().train_pack(runs, observers)


@pytest.fixture
def counting() -> Counting:
    return Counting("cpu")


def histories_in(folder: Path) -> dict[str, list[Any]]:
    """By label."""
    return {read_summary(run)["label"]: read_history(run) for run in (folder / "runs").iterdir()}


def test_a_study_that_accepts_it_scores_runs_that_diverged(
    a_study: Callable[..., Any], counting: Counting, tmp_path: Path
) -> None:
    summary = conduct(a_study(accepts_divergence=True), out=tmp_path / "out", backend=counting)
    assert {claim["name"]: claim["verdict"] for claim in summary["claims"]} == {"calm": "refuted", "wild": "supported"}
    assert (summary["runs"], summary["diverged"], summary["trained"]) == (4, 2, 4)
    histories = histories_in(tmp_path / "out")
    for seed in range(2):
        first, last = histories[f"wild {seed}"]
        assert first["step"] == 0
        assert first["consensus_distance"] == 0
        assert last == {"step": 2, "diverged": 1.0}
        assert [row["step"] for row in histories[f"calm {seed}"]] == [0, 20]
    assert "4, of which 2 diverged, whose training took" in (tmp_path / "out" / "report.md").read_text()


def test_runs_that_diverged_are_not_trained_again(
    a_study: Callable[..., Any], counting: Counting, tmp_path: Path
) -> None:
    study = a_study(accepts_divergence=True)
    first = conduct(study, out=tmp_path / "out", backend=counting)
    assert len(counting.trained) == 4
    second = conduct(study, out=tmp_path / "out", backend=counting)
    assert len(counting.trained) == 4
    assert {**first, "seconds": 0, "trained": 0} == {**second, "seconds": 0}


def test_a_study_that_does_not_accept_it_ends_and_may_say_later_that_it_does(
    a_study: Callable[..., Any], counting: Counting, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=rf"^2 of 4 runs failed, first 'wild 0': Diverged: {SENTENCE}$"):
        conduct(a_study(), out=tmp_path / "out", backend=counting)
    assert not (tmp_path / "out" / "summary.json").exists()
    summary = conduct(a_study(accepts_divergence=True), out=tmp_path / "out", backend=counting)
    assert (summary["trained"], summary["diverged"], len(counting.trained)) == (0, 2, 4)


def test_a_failure_of_another_kind_is_none_that_a_study_accepts(a_study: Callable[..., Any], tmp_path: Path) -> None:
    class Failing(LocalBackend):
        def packs(self, runs: Any) -> list[list[int]]:
            return [[place] for place in range(len(runs))]

        def train(self, run: Run, *more: Any) -> Any:
            raise FloatingPointError("division by zero")

    with pytest.raises(StudyError, match=r"4 of 4 runs failed, first 'calm 0': FloatingPointError: division by zero"):
        conduct(a_study(accepts_divergence=True), out=tmp_path / "out", backend=Failing("cpu"))


def test_in_a_pack_a_run_ends_after_the_same_step_and_with_the_same_words_as_alone(far_too_large: Make) -> None:
    runs, seen = [far_too_large(seed=seed) for seed in range(2)], [Seen(), Seen()]
    together = CPU.train_pack(runs, [[one] for one in seen])
    for run, error, told in zip(runs, together, seen, strict=True):
        alone = Seen()
        with pytest.raises(Diverged, match=SENTENCE) as ended:
            CPU.train(run, [alone])
        assert isinstance(error, Diverged)
        assert (str(error), error.step) == (str(ended.value), 2)
        assert ended.value.step == 2
        assert told.rows == alone.rows
        assert told.steps == alone.steps == [1, 2]


@pytest.mark.parametrize("step", [0, 3, 5, 19])
def test_the_other_runs_of_a_pack_go_on(small: Make, step: int) -> None:
    """One is spoilt after some step, whether that is measured or not."""
    runs, seen = [small(seed=seed, measure_every=5) for seed in range(3)], [Seen() for _ in range(3)]
    pack = Pack(runs, torch.device("cpu"))
    advance = pack.advance

    def spoiling(worlds: Any) -> Any:
        if worlds.step == step:
            worlds.ensemble.params.matrix[pack.n + 2, 5] = torch.nan
        return advance(worlds)

    pack.advance = spoiling  # type: ignore[method-assign]
    first, second, third = simulate_pack(pack, [[one] for one in seen])
    assert isinstance(second, Diverged)
    assert second.step == step
    assert f"1 of 4 replicas are not finite after {step} steps, the first is replica 2" in str(second)
    assert (seen[1].steps, seen[0].steps) == (list(range(1, step + 1)), list(range(1, 21)))
    for run, found in ((runs[0], first), (runs[2], third)):
        assert not isinstance(found, Diverged)
        for name, leaf in CPU.train(run).params.items():
            torch.testing.assert_close(found.params[name], leaf, rtol=1e-10, atol=1e-12)


def test_a_copy_keeps_the_step() -> None:
    copied = pickle.loads(pickle.dumps(Diverged("far too large", 7)))
    assert (type(copied), str(copied), copied.step) == (Diverged, "far too large", 7)


@pytest.mark.slow
def test_it_says_the_step_from_other_processes(far_too_large: Make) -> None:
    with pytest.raises(Diverged, match="not finite after 2 steps") as ended:
        ProcessesBackend(actors=2, device="cpu").train(far_too_large())
    assert ended.value.step == 2


def test_the_folder_says_so_in_its_rows_its_events_and_its_summary(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {}, device="cpu")
    folder.measured({"step": 5, "loss": 1e300})
    folder.fail(Diverged("2 of 4 replicas are not finite", 5), label="wild")
    assert read_history(folder.path) == [{"step": 5, "loss": 1e300}, {"step": 5, "diverged": 1.0}]
    summary = read_summary(folder.path)
    assert (summary["status"], summary["diverged_after"]) == ("failed", 5)
    said = json.loads((folder.path / "events.jsonl").read_text().splitlines()[-1])
    assert (said["event"], said["error"]) == ("failed", "Diverged: 2 of 4 replicas are not finite")
    folder.rewind(5)
    assert read_history(folder.path) == [{"step": 5, "loss": 1e300}]


def test_a_run_resumed_from_before_says_it_once(dsgd_command: Dsgd, tmp_path: Path) -> None:
    small = ["task=digits", "task.train_size=64", "model.widths=[8]", "topology.n=4", "batch_size=4", "steps=9"]
    wild = [*small, "learning_rate.lr=1e38", "checkpoint_every=1", "measure_every=1"]
    assert dsgd_command("run", *wild, "--out", "here")[0] == 1
    rows = read_history(tmp_path / "here")
    assert [row.get("diverged") for row in rows] == [*[None] * (len(rows) - 1), 1.0]
    assert dsgd_command("resume", "here")[0] == 1
    assert read_history(tmp_path / "here") == rows
