"""What a run measures, told to a tracker beside the run's folder: TensorBoard, Weights & Biases, MLflow.

The run's folder is the truth. A tracker is an observer that may fail: then it says so once, is asked nothing more, and
the run goes on. Its library is imported when it starts.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dsgd.atomic import write_atomically
from dsgd.plain_files import json_in
from dsgd.results import describe_error, to_json
from dsgd.yaml_values import flat

if TYPE_CHECKING:
    from torch import Tensor

    from dsgd.metrics import Values
    from dsgd.run import Run

IDS = "trackers.json"  # in a run's folder: by what a tracker knows it
PROJECT = "dsgd"
ENDS = {"ok": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}  # and what MLflow calls them

Tell = Callable[[str], None]


class Logger(Protocol):
    """One run at a tracker; `id` is by what the tracker knows it, where it can be asked to go on."""

    @property
    def id(self) -> str | None: ...
    def log(self, step: int, numbers: Mapping[str, float]) -> None: ...
    def note(self, step: int, event: str, text: str) -> None: ...
    def close(self, status: str) -> None: ...


@dataclass(frozen=True)
class Start:
    """What a logger is opened for: the run's folder, its configuration, and where it goes on, if it does."""

    folder: Path
    config: Mapping[str, Any]
    step: int | None = None
    id: str | None = None


class TensorBoard:
    """Event files in the run's folder, under `tensorboard`: `tensorboard --logdir runs` shows those of all runs."""

    id = None

    def __init__(self, start: Start) -> None:
        writer = import_module("torch.utils.tensorboard").SummaryWriter
        again = None if start.step is None else start.step + 1  # what was told of later steps is told anew
        self._writer = writer(str(start.folder / "tensorboard"), purge_step=again)
        if start.step is None:
            self._writer.add_text("config", f"```\n{to_json(dict(start.config), indent=2)}\n```", 0)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        self._writer.flush()

    def note(self, step: int, event: str, text: str) -> None:
        self._writer.add_text(event, text, step)

    def close(self, status: str) -> None:
        self._writer.close()


class Wandb:
    """A run of the project in $WANDB_PROJECT, or dsgd; with $WANDB_MODE=offline only its files, in the run's folder."""

    def __init__(self, start: Start) -> None:
        library = import_module("wandb")
        self._run = library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            dir=str(start.folder),
            name=start.folder.resolve().name,
            config=json.loads(to_json(dict(start.config))),
            id=start.id,
            resume="allow" if start.id else None,
            settings=library.Settings(console="off"),  # stdout may be JSON for a script
        )

    @property
    def id(self) -> str | None:
        return str(self._run.id)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def note(self, step: int, event: str, text: str) -> None:
        self._run.summary[f"{event}_at_{step}"] = text

    def close(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "ok" else 1)


class MlFlow:
    """A run of the experiment in $MLFLOW_EXPERIMENT_NAME, or dsgd, in MLflow's own place ($MLFLOW_TRACKING_URI)."""

    def __init__(self, start: Start) -> None:
        client, self._entities = import_module("mlflow").MlflowClient(), import_module("mlflow.entities")
        self._client, self.id = client, start.id or self._created(client, start)
        if start.id:
            client.update_run(start.id, status="RUNNING")

    def _created(self, client: Any, start: Start) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else client.create_experiment(name)
        made: str = client.create_run(experiment, run_name=start.folder.resolve().name).info.run_id
        knobs = flat(json.loads(to_json(dict(start.config)))).items()
        client.log_batch(made, params=[self._entities.Param(knob, str(value)[:500]) for knob, value in knobs])
        return made

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        told = [self._entities.Metric(name, number, now, step) for name, number in numbers.items()]
        self._client.log_batch(self.id, metrics=told)

    def note(self, step: int, event: str, text: str) -> None:
        self._client.set_tag(self.id, f"{event}_at_{step}", text)

    def close(self, status: str) -> None:
        self._client.set_terminated(self.id, ENDS[status])


TRACKERS: dict[str, Callable[[Start], Logger]] = {"tensorboard": TensorBoard, "wandb": Wandb, "mlflow": MlFlow}


def check_tracker(name: str) -> None:
    """ValueError for a name that is none, ModuleNotFoundError where its library is not installed; imports nothing."""
    if name not in TRACKERS:
        raise ValueError(f"{name!r} is unknown; allowed are {', '.join(TRACKERS)}")
    try:
        there = find_spec(name)
    except ValueError:  # of a module without a spec
        there = None
    if there is None or there.origin is None:  # a folder of that name, as the tracker itself may leave one
        raise ModuleNotFoundError(f'{name} is not installed; pip install "dsgd[track]", or {name} alone')


class Tracker:
    """An observer that tells a tracker what is measured, and why it tells no more to `tell`, once, where that fails.

    It is closed with the last row of a run of `steps`, as its `with` block ends, or by `close`.
    """

    def __init__(self, name: str, start: Start, steps: int, tell: Tell) -> None:
        self.name, self.steps, self.tell, self._step = name, steps, tell, start.step or 0
        self._logger: Logger | None = None
        self._try(lambda: self._open(start))

    def stepped(self, step: int) -> None:
        self._step = step

    def measured(self, row: Values) -> None:
        numbers = {name: float(value) for name, value in row.items() if isinstance(value, float | int)}
        self._step = int(numbers.pop("step", self._step))
        self._ask(lambda logger: logger.log(self._step, numbers))
        if self._step == self.steps:
            self.close()

    def snapshotted(self, step: int, params: Mapping[str, Tensor]) -> None:
        """Nothing: ensembles stay in the run's folder."""

    def event(self, event: str, **details: object) -> None:
        said = str(details.get("sentence") or to_json(details))
        self._ask(lambda logger: logger.note(self._step, event, said))

    def close(self, status: str = "ok") -> None:
        """The run ended: one of ENDS."""
        self._ask(lambda logger: logger.close(status))
        self._logger = None

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close("interrupted" if interrupted else "failed" if kind else "ok")

    def _open(self, start: Start) -> None:
        self._logger = TRACKERS[self.name](start)
        ids = {**known_ids(start.folder), self.name: self._logger.id}
        write_atomically(start.folder / IDS, to_json(ids, indent=2) + "\n")

    def _ask(self, do: Callable[[Logger], None]) -> None:
        if (logger := self._logger) is not None:
            self._try(lambda: do(logger))

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except (Exception, SystemExit) as error:  # a library may call sys.exit
            self._logger = None
            said = " ".join(describe_error(error).split())[:300]
            self.tell(f"tracking by {self.name} ended after {self._step} steps, the run goes on: {said}")


def track(
    name: str,
    run: Run,
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    step: int | None = None,
    tell: Tell | None = None,
) -> Tracker:
    """A tracker for `dsgd.train(run, observers=[...])`, its files and its id in the run's folder, which is made.

    `step` says where a run goes on that was tracked in that folder before. What fails later is told, by a warning
    unless `tell` is given; ValueError or ModuleNotFoundError, at once, for a tracker that is not there.
    """
    check_tracker(name)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    start = Start(place, run.describe() if config is None else config, step)
    if step is not None:
        start = Start(place, start.config, step, known_ids(place).get(name))
    return Tracker(name, start, run.steps, tell or _warn)


def known_ids(folder: Path) -> dict[str, str | None]:
    """By what the trackers of a run's folder know it."""
    try:
        return json_in(folder / IDS)
    except (OSError, ValueError):
        return {}


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RuntimeWarning, stacklevel=2)
