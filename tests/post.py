"""A transport between threads of one process, where a seed has messages lost, late, doubled, repeated or spoilt."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from dsgd.communicators import Distributed, PeerLost
from dsgd.communicators.distributed import Wait

Blocks = tuple[tuple[int, ...], ...]


@dataclass
class Office:
    """Where the letters of all places lie, keyed by (number, sender, receiver): the first to come is there to stay.

    Each is dropped, delayed, doubled, repeated or spoilt with the probabilities in `faults`, drawn by `seed` and its
    key. One that is repeated comes in the next exchange once more, before the letter that is due there.
    """

    size: int
    timeout: float = 20.0
    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    shared: bool = False
    letters: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict)
    happened: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    awaited: set[tuple[int, int, int]] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def post(self, key: tuple[int, int, int], letter: torch.Tensor) -> None:
        fault, letter = self._fault(key), letter.clone()
        if fault == "drop":
            return
        if fault == "delay":
            threading.Timer(0.02, self._put, (key, letter)).start()
            return
        if fault == "spoil":
            letter[random.Random(f"{self.seed} {key}").randrange(40)] ^= 16
        self._put(key, letter)
        if fault == "repeat":
            self._put((key[0] + 1, *key[1:]), letter)
        if fault == "double":
            threading.Timer(0.01, self._put, (key, letter)).start()

    def _fault(self, key: tuple[int, int, int]) -> str | None:
        draw = random.Random(f"{self.seed} {key} fault").random()
        for name, probability in self.faults.items():
            if draw < probability:
                self.happened.append((name, key))
                return name
            draw -= probability
        return None

    def _put(self, key: tuple[int, int, int], letter: torch.Tensor) -> None:
        with self.changed:
            self.letters.setdefault(key, letter)
            self.changed.notify_all()

    def expect(self, key: tuple[int, int, int]) -> None:
        with self.changed:
            self.awaited.add(key)
            self.changed.notify_all()

    def expected(self, key: tuple[int, int, int], seconds: float | None) -> bool:
        """Whether the receiver waits for the letter: as with gloo, it is sent only then."""
        with self.changed:
            there = self.changed.wait_for(lambda: key in self.awaited, seconds or self.timeout)
        if not there and seconds is None:
            raise PeerLost(f"place {key[2]} did not answer within {self.timeout:g} s")
        return there

    def take(self, key: tuple[int, int, int], seconds: float | None = None) -> torch.Tensor:
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.letters, seconds or self.timeout):
                raise PeerLost(f"place {key[1]} did not answer within {self.timeout:g} s")
            return self.letters[key]


class Threads:
    """One place's transport over an office."""

    device = "cpu"

    def __init__(self, me: int, office: Office) -> None:
        self.me, self.size, self.office, self._totals = me, office.size, office, 0
        self.mates = {k: os.getpid() for k in range(self.size) if k != me and office.shared}

    def exchange(
        self, number: int, outgoing: Mapping[int, torch.Tensor], incoming: Mapping[int, torch.Tensor]
    ) -> tuple[dict[int, Wait], dict[int, Wait]]:
        for peer in incoming:
            self.office.expect((number, peer, self.me))
        for peer, letter in outgoing.items():
            self.office.post((number, self.me, peer), letter)

        def wait(peer: int, into: torch.Tensor, seconds: float | None) -> bool:
            try:
                into.copy_(self.office.take((number, peer, self.me), seconds))
            except PeerLost:
                if seconds is None:
                    raise
                return False
            return True

        return {k: partial(wait, k, b) for k, b in incoming.items()}, {
            k: partial(self.office.expected, (number, self.me, k)) for k in outgoing
        }

    def await_leader(self) -> None:
        """Nothing: the office's timeout is long enough."""

    def total(self, tensor: torch.Tensor) -> None:
        self._totals += 1
        for peer in range(self.size):
            self.office._put((-self._totals, self.me, peer), tensor.clone())
        letters = [self.office.take((-self._totals, peer, self.me)) for peer in range(self.size)]
        tensor.copy_(torch.stack(letters).sum(dim=0))


def everywhere(
    blocks: Blocks, work: Callable[[Distributed], Any], office: Office | None = None, patience: float | None = None
) -> list[Any]:
    """What `work` returns in each of the places that hold the replicas `blocks`, a thread each.

    Where some fail, the error is that of the first to fail, not of those that then wait in vain.
    """
    office = office or Office(len(blocks))
    places = [Distributed(blocks, Threads(k, office), patience) for k in range(len(blocks))]
    with ThreadPoolExecutor(len(blocks)) as pool:
        done = [pool.submit(work, place) for place in places]
    errors = [error for each in done if (error := each.exception())]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, PeerLost))
    return [each.result() for each in done]
