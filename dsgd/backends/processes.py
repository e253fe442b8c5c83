"""Replicas in several processes of this machine: the rank code of a cluster, without one."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from dsgd.backends.devices import check_device, torch_device
from dsgd.backends.rank import Rank
from dsgd.backends.supervision import BackendError, Place, PlaceLost, Terms, supervise
from dsgd.knobs import check_least
from dsgd.loop import Keeper, Observer, Result
from dsgd.run import Run
from dsgd.simulation import World, check
from dsgd.threads import in_thread

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    import torch

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ProcessesBackend:
    """`actors` processes share the replicas out (0: one a core), each with its share of the cores and, if any, a GPU.

    A process silent for `timeout` seconds is lost; the run goes on from the world kept last, at most `restarts` times.
    With `straggler_timeout` one that is late by so many seconds is left out of a gossip with neighbours; 0 waits for
    it, as all do where they must agree: in means over all, under quarantine, when measuring, and at every eighth step.

    A script that uses it trains under `if __name__ == "__main__":`, for new processes import it.
    """

    actors: int = 0
    device: str = "auto"
    timeout: float = 30.0
    restarts: int = 3
    straggler_timeout: float = 0

    def __post_init__(self) -> None:
        check_device(self.device)
        check_terms(self)

    def check(self, run: Run) -> None:
        """ValueError where the run cannot be shared out so."""
        check_count(self.actors, run.n)

    def train(
        self,
        run: Run,
        observers: Iterable[Observer] = (),
        world: World | None = None,
        keeper: Keeper | None = None,
    ) -> Result:
        self.check(run)
        check(run)
        gpus, cores = self.torch_device().type == "cuda", os.cpu_count() or 1
        count = self.actors or min(run.n, cores)
        terms = Terms(
            count,
            device=self.device,
            carrier="nccl" if gpus and count <= _gpus() else "gloo",
            threads=max(1, cores // count),
            timeout=self.timeout,
            restarts=self.restarts,
            patience=self.straggler_timeout or None,
        )
        return supervise(self, terms, run, observers, world, keeper)

    def places(self, count: int, least: int) -> list[Place]:
        """So many new processes."""
        return [ChildPlace() for _ in range(count)]

    def torch_device(self) -> torch.device:
        """The device; ValueError where cuda is asked for and there is none."""
        return torch_device(self.device)


class ChildPlace:
    """A `Rank` in a process of its own, asked over a pipe; it ends with this one."""

    host = LOOPBACK

    def __init__(self) -> None:
        from torch.multiprocessing import get_context

        spawn = get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=answer, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self._last: Future[bytes] | None = None
        self._answered_once = False

    def ask(self, method: str, *arguments: Any) -> Callable[[float], Any]:
        asked = in_thread(partial(self._sent_and_answered, pickle.dumps((method, arguments)), self._last))
        self._last = asked
        return partial(self._answered, asked)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self._pipe.close()

    def _sent_and_answered(self, question: bytes, before: Future[bytes] | None) -> bytes:
        """The answer, once those asked before have theirs; in a thread, as a frozen process neither takes nor gives."""
        if before:
            before.result()
        self._pipe.send_bytes(question)
        return self._pipe.recv_bytes()

    def _answered(self, asked: Future[bytes], seconds: float) -> Any:
        try:
            answer = pickle.loads(asked.result(seconds))
            self._answered_once = True
        except TimeoutError:
            raise PlaceLost(f"process {self.process.pid} did not answer within {seconds:g} s") from None
        except (EOFError, OSError) as error:
            raise self._gone() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _gone(self) -> PlaceLost | BackendError:
        self.process.join(1)
        if not self._answered_once and (self.process.exitcode or 0) > 0:
            return BackendError(
                f"process {self.process.pid} ended as it started (exit status {self.process.exitcode}; why is said "
                "above): new processes import the script that starts them; put the training under "
                "`if __name__ == '__main__':` in a script file"
            )
        return PlaceLost(f"process {self.process.pid} is gone (exit status {self.process.exitcode})")


def answer(pipe: Connection) -> None:
    """Answers calls of a rank's methods until the pipe is closed, then ends the process, training or not.

    Signals to the owner's whole group are the owner's business.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    rank = Rank()
    while True:
        try:
            question = pipe.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        try:
            method, arguments = pickle.loads(question)
            found = getattr(rank, method)(*arguments)
        except Exception as error:
            found = BackendError(f"process {os.getpid()} failed: {type(error).__name__}: {error}")
        try:
            pipe.send_bytes(pickle.dumps(found))
        except OSError:
            os._exit(0)


def check_terms(backend: Any) -> None:
    """ValueError for what no run could be shared out by."""
    if backend.actors < 0:
        raise ValueError(f"actors is {backend.actors}; it must be at least 0 (0: as many as there is room for)")
    if not backend.timeout > 0:
        raise ValueError(f"timeout is {backend.timeout}; it must be above 0 seconds")
    if backend.straggler_timeout > backend.timeout:
        raise ValueError(
            f"straggler_timeout is {backend.straggler_timeout}, above the timeout of {backend.timeout} seconds after "
            "which a place is lost; give less"
        )
    check_least(backend, restarts=0, straggler_timeout=0)


def check_count(actors: int, n: int) -> None:
    """ValueError where there are more places than replicas."""
    if actors > n:
        raise ValueError(f"actors is {actors}, but there are only {n} replicas; take 1 to {n}")


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
