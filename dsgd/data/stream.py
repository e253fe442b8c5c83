"""A stream of test examples in sessions: each brings one more class, of which a few shots are labelled, and a drift."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dsgd.data.drift import DRIFTS
from dsgd.data.examples import Examples, Inputs
from dsgd.randomness import generator


@dataclass(frozen=True, eq=False)
class Session:
    """Labelled `shots` of the class that is new, and drifted `batches` of all classes known then."""

    shots: Examples
    batches: tuple[Examples, ...]


@dataclass(frozen=True)
class Stream:
    """Sessions with the drifts of `strengths` in turn, each of at most `examples` in whole batches of `batch_size`.

    Session s knows the classes 0 to `base` + s. Of each class that emerges `shots` examples are set aside; the others
    come back in every session that knows them, in an order of their own. Shots are as the training examples were, or
    with `drifted_shots` as the session's. Drifted inputs keep within `within`.
    """

    strengths: Mapping[str, float]
    base: int
    shots: int
    batch_size: int
    examples: int
    within: tuple[float, float]
    drifted_shots: bool = False

    def sessions(self, held_out: Examples, seed: int) -> Iterator[Session]:
        """One a class from `base` on; a function of the examples and the seed. ValueError where these are too few."""
        classes = int(held_out.y.max()) + 1
        shots = {new: self._shots(held_out, new, seed) for new in range(self.base, classes)}
        streamed = np.ones(len(held_out), bool)
        streamed[np.concatenate(list(shots.values()))] = False
        for s, (new, chosen) in enumerate(shots.items()):
            known = np.flatnonzero(streamed & (held_out.y <= new))
            order = generator(seed, "drift", "order", s).permutation(known)[: self.examples]
            count = len(order) // self.batch_size
            if not count:
                raise ValueError(f"a session has {len(order)} examples; a batch of {self.batch_size} needs more")
            taken = np.concatenate([chosen, order[: count * self.batch_size]])
            x, y = self._drifted(held_out.x[taken], s, seed), held_out.y[taken]
            parts = zip(np.split(x[self.shots :], count), np.split(y[self.shots :], count), strict=True)
            shown = x[: self.shots] if self.drifted_shots else held_out.x[chosen]
            yield Session(Examples(shown, y[: self.shots]), tuple(Examples(*part) for part in parts))

    def _shots(self, held_out: Examples, new: int, seed: int) -> np.ndarray:
        of_class = np.flatnonzero(held_out.y == new)
        if len(of_class) <= self.shots:
            raise ValueError(f"class {new} has {len(of_class)} held-out examples; {self.shots} shots need more")
        return generator(seed, "drift", "shots", new).permutation(of_class)[: self.shots]

    def _drifted(self, x: Inputs, s: int, seed: int) -> Inputs:
        name, strength = list(self.strengths.items())[s % len(self.strengths)]
        drifted = DRIFTS[name](x, strength, generator(seed, "drift", name, s))
        low, high = self.within
        return np.clip(drifted, np.float32(low), np.float32(high))
