"""The owner of the places in which a run's replicas live: it starts them, hears their reports, and replaces the lost.

A place that is gone, frozen or cut off ends the attempt. The next one goes on from the world kept last, in fresh
places, as many as can be had; what observers were told already is not told again, for its numbers are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dsgd.backends.rank import Carrier, Job, Outcome, Report, VersionError, check_versions, hello
from dsgd.divergence import Diverged
from dsgd.fingerprint import data_digest
from dsgd.loop import Keeper, Observer, Result, Stopped
from dsgd.plugins import carried
from dsgd.run import Run
from dsgd.simulation import World
from topologies import blocks

SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two reports
TO_SPEAK_UP = 0.2  # seconds


class PlaceLost(RuntimeError):
    """A place is gone, or did not answer in time."""


class BackendError(RuntimeError):
    """The run cannot go on in the places it was given; says why and what to do."""


class Place(Protocol):
    """A `Rank` somewhere: `ask` begins a call of one of its methods and returns what waits so many seconds for it.

    Both raise PlaceLost. `end` ends it at once, whatever it does; `host` is the address at which its peers reach it.
    """

    @property
    def host(self) -> str: ...
    def ask(self, method: str, *arguments: Any) -> Callable[[float], Any]: ...
    def end(self) -> None: ...


class Fleet(Protocol):
    """Where places come from: `count`, or as many as there are, at least `least`; else BackendError."""

    def places(self, count: int, least: int) -> list[Place]: ...


@dataclass(frozen=True)
class Terms:
    """How a run is shared out and what is done about losses.

    Replicas live in `count` places with `threads` threads each. A silent place is lost after `timeout` seconds, or
    `start_timeout` while it starts; after more than `restarts` losses the run fails. With `patience` whoever is late by
    so many seconds is left out of a gossip, and counted.
    """

    count: int
    device: str = "auto"
    carrier: Carrier = "gloo"
    threads: int = 1
    timeout: float = 30.0
    start_timeout: float = 120.0
    restarts: int = 3
    patience: float | None = None


def supervise(
    fleet: Fleet,
    terms: Terms,
    run: Run,
    observers: Iterable[Observer] = (),
    world: World | None = None,
    keeper: Keeper | None = None,
) -> Result:
    """The run's result; what `simulate` raises, or BackendError once more places were lost than the terms allow."""
    audience = Audience(tuple(observers), keeper, world)
    for left in reversed(range(terms.restarts + 1)):
        places = fleet.places(terms.count, terms.count if left == terms.restarts else 1)
        try:
            return Attempt(places, terms, run, audience).result()
        except PlaceLost as lost:
            audience.lost(str(lost), left)
            if not left:
                raise BackendError(f"{lost}; more than {terms.restarts} losses are not made good (restarts)") from None
        finally:
            with ThreadPoolExecutor(len(places)) as together:  # those that do not answer are waited for once
                list(together.map(lambda place: place.end(), places))
    raise AssertionError("unreachable")


class Audience:
    """Tells observers and keeper what the places report, each thing once, and holds the world to continue from."""

    def __init__(self, observers: Sequence[Observer], keeper: Keeper | None, world: World | None) -> None:
        self.observers, self.keeper, self.world = observers, keeper, world
        self.history: list[Any] = []
        self._told = {"stepped": 0, "measured": -1, "snapshotted": -1}
        if world is not None:
            self._told = dict.fromkeys(self._told, world.step)

    def hear(self, report: Report) -> None:
        for method, arguments in report.news:
            if method == "keep":
                self._keep(*arguments)
            else:
                self._tell(method, arguments[0]["step"] if method == "measured" else arguments[0], *arguments)
        self._tell("stepped", report.step, report.step)

    def lost(self, reason: str, restarts_left: int) -> None:
        step = self.world.step if self.world else 0
        then = f"the run goes on from step {step}" if restarts_left else "the run ends"
        for observer in self.observers:
            observer.event("place_lost", sentence=f"{reason}; {then}", step=step, restarts_left=restarts_left)

    def _keep(self, world: World) -> None:
        self.world = world
        if self.keeper:
            self.keeper.keep(world)

    def _tell(self, method: str, step: int, *arguments: Any) -> None:
        if step <= self._told[method]:
            return
        self._told[method] = step
        if method == "measured":
            self.history.append(arguments[0])
        for observer in self.observers:
            getattr(observer, method)(*arguments)


class Attempt:
    """One attempt to take a run to its end in the given places."""

    def __init__(self, places: Sequence[Place], terms: Terms, run: Run, audience: Audience) -> None:
        self.places, self.terms, self.audience = places, terms, audience
        self.run = run
        self._stop_asked = False

    def result(self) -> Result:
        began = time.perf_counter()
        self._begin()
        outcomes = self._outcomes()
        first, *others = (outcome.result for outcome in outcomes)
        assert first is not None
        everyone = [first, *(other for other in others if other)]
        return replace(
            first,
            history=self.audience.history,
            seconds=time.perf_counter() - began,
            bytes_crossed=sum(one.bytes_crossed for one in everyone),
            dropped=sum(one.dropped for one in everyone),
            places=len(self.places),
        )

    def _begin(self) -> None:
        terms, count = self.terms, len(self.places)
        try:
            check_versions([hello(), *self._asked("hello", terms.start_timeout)])
        except VersionError as error:
            raise BackendError(str(error)) from None
        self._introduce()
        self._check_data()
        host = self.places[0].host
        port = self.places[0].ask("open_store", host, terms.start_timeout)(terms.start_timeout)
        job = Job(
            self.run,
            blocks(self.run.schedule, count),
            terms.device,
            terms.carrier,
            terms.threads,
            terms.timeout,
            terms.start_timeout,
            terms.patience,
            self.audience.keeper.every if self.audience.keeper else 0,
        )
        world = self.audience.world
        answers = [p.ask("begin", job, k, p.host, (host, port), world) for k, p in enumerate(self.places)]
        for answer in answers:
            answer(terms.start_timeout)

    def _introduce(self) -> None:
        """The user's own files go to all places before anything that is made of their classes."""
        if plugins := carried():
            for answer in [place.ask("know", plugins) for place in self.places]:
                answer(self.terms.start_timeout)

    def _check_data(self) -> None:
        """BackendError where a place reads other data or files than this one under the same names."""
        own = data_digest(self.run)
        answers = [place.ask("data_digest", self.run) for place in self.places]
        for place, answer in zip(self.places, answers, strict=True):
            if answer(self.terms.start_timeout) != own:
                raise BackendError(
                    f"the data or the files of the run are others on {place.host} than here; give all nodes the same, "
                    "and name files by paths that they share"
                )

    def _outcomes(self) -> list[Outcome]:
        """How all places ended, once all are done; raises where one ended otherwise."""
        pause = SHORTEST_PAUSE
        while True:
            reports = self._reports()
            if any(report.outcome and report.outcome.kind == "peer_lost" for report in reports):
                time.sleep(TO_SPEAK_UP)  # for the place that knows why
                reports = self._reports()
            outcomes = [report.outcome for report in reports]
            ended = [outcome for outcome in outcomes if outcome]
            _raise_failure(outcomes)
            if len(ended) == len(outcomes):
                return ended
            self._pass_on_stop()
            time.sleep(pause)
            pause = SHORTEST_PAUSE if reports[0].news else min(2 * pause, LONGEST_PAUSE)

    def _reports(self) -> list[Report]:
        """What all places report, after the audience has heard it."""
        reports: list[Report] = self._asked("report", self.terms.timeout)
        for report in reports:
            self.audience.hear(report)
        return reports

    def _pass_on_stop(self) -> None:
        keeper = self.audience.keeper
        if keeper and not self._stop_asked and keeper.stopping():
            self._stop_asked = True
            self._asked("stop", self.terms.timeout)

    def _asked(self, method: str, timeout: float) -> list[Any]:
        """The answers of all places; PlaceLost, naming it, where one does not answer."""
        answers = [place.ask(method) for place in self.places]
        return [answer(timeout) for answer in answers]


def _raise_failure(outcomes: Sequence[Outcome | None]) -> None:
    """The error of the first place that did not end well; one that only lost its peers speaks last."""
    kinds = {outcome.kind: (k, outcome) for k, outcome in reversed(list(enumerate(outcomes))) if outcome}
    if "diverged" in kinds:
        raise Diverged(kinds["diverged"][1].sentence, kinds["diverged"][1].step)
    if "failed" in kinds:
        raise BackendError(f"place {kinds['failed'][0]} failed: {kinds['failed'][1].sentence}")
    if "stopped" in kinds and all(outcome and outcome.kind == "stopped" for outcome in outcomes):
        raise Stopped(kinds["stopped"][1].step)
    if "peer_lost" in kinds:
        raise PlaceLost(kinds["peer_lost"][1].sentence)
