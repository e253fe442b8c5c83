"""A command run in this process, and what it must never do: raise, write, warn, take long, or answer at length."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import stat
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsgd import cli

LONGEST_LINE = 500
MOST_LINES = 40
MOST_HASHED = 2**24  # bytes of a file
MOST_SECONDS = 5.0  # of this process' time; a command that has not ended then hangs


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    out: str
    err: str
    seconds: float
    raised: str = ""
    warned: tuple[str, ...] = ()

    def faults(self, allowed: Sequence[int] = (0, 2)) -> list[str]:
        """What is wrong with it, in words."""
        if self.raised:
            return [self.raised]
        found = [f"exit status {self.status}: {self.err}"] if self.status not in allowed else []
        found += [f"warned: {said}" for said in self.warned]
        found += ["a traceback is printed"] if "Traceback" in self.err else []
        if self.status == 0:
            return found
        lines = self.err.splitlines()
        found += ["an empty sentence"] if not all(line.strip() for line in lines) or not lines else []
        found += [f"{len(lines)} lines"] if len(lines) > MOST_LINES else []
        found += [f"a line of {len(line)} characters: {line}" for line in lines if len(line) > LONGEST_LINE]
        found += [f"not printable: {line!r}" for line in lines if not line.isprintable()]
        return found


class TooLong(BaseException):
    """No Exception, so that nobody on the way takes it for one of theirs."""


def answered(words: Sequence[str], seconds: float = MOST_SECONDS) -> Answer:
    """What `dsgd WORDS` answers."""
    out, err, began = io.StringIO(), io.StringIO(), time.process_time()
    status, raised = -1, ""
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("always")
        try:
            with _at_most(seconds), _overheard() as unexpected:
                status = cli.main(list(words))
            raised = "".join(map(_origin, unexpected))
        except (Exception, TooLong, SystemExit) as error:
            raised = _origin(error)
    told = tuple(f"{one.category.__name__}: {one.message}" for one in caught if _ours(one))
    _steady()
    return Answer(status, out.getvalue(), err.getvalue(), time.process_time() - began, raised, told)


def _steady() -> None:
    """Torch as it was: what an alarm cuts short in a dry run, after which a process ends, may leave it in any mode."""
    import torch

    torch.set_grad_enabled(True)
    while torch._C._functorch.peek_interpreter_stack() is not None:
        torch._C._functorch.pop_dynamic_layer_stack()


def _ours(caught: Any) -> bool:
    """Of a plain user's warnings: those that Python shows by default."""
    return not issubclass(caught.category, DeprecationWarning | PendingDeprecationWarning | ResourceWarning)


def _origin(error: BaseException) -> str:
    """An error in a few lines: the last frames of the package that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f"{Path(f.filename).name}:{f.lineno} {f.name}"
        for f in frames
        if "/dsgd/" in f.filename or "topolog" in f.filename
    ]
    return f"{type(error).__name__}: {str(error)[:300]} [{' > '.join(ours[-3:])}]"


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise TooLong(f"more than {seconds:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextlib.contextmanager
def _overheard() -> Iterator[list[BaseException]]:
    """The errors for which `dsgd` has no sentence of its own, so that it names their class."""
    told, unexpected = cli._told, list[BaseException]()

    def listen(error: BaseException) -> tuple[int, Sequence[str]]:
        status, lines = told(error)
        unexpected.extend([error] if status == 1 and "DSGD_DEBUG" in "".join(lines) else [])
        return status, lines

    cli._told = listen
    try:
        yield unexpected
    finally:
        cli._told = told


def contents(folder: Path) -> dict[str, tuple[str, int, str]]:
    """All that is below a folder: kind, size and, of small files, hash; no link is followed, no pipe opened."""
    found = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above) / name
            facts = path.lstat()
            found[str(path.relative_to(folder))] = (
                oct(facts.st_mode),
                0 if name in folders else facts.st_size,
                _hashed(path) if stat.S_ISREG(facts.st_mode) and facts.st_size <= MOST_HASHED else "",
            )
    return found


def _hashed(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
