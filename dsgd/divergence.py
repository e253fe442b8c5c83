"""The end of a run whose numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Sequence


class Diverged(FloatingPointError):
    """A twin, or more replicas than the run bears, are not finite after `step` steps; said in a sentence."""

    def __init__(self, sentence: str, step: int = 0) -> None:  # copied between processes by the sentence alone
        super().__init__(sentence)
        self.step = step

    def row(self) -> dict[str, float]:
        """What stands last in the run's history."""
        return {"step": self.step, "diverged": 1.0}


def not_finite(replicas: Sequence[int], finite: Sequence[bool], steps: int, n: int) -> Diverged:
    """Says which of the replicas looked at, of n in all, are not finite after so many steps."""
    bad = [j for j, ok in zip(replicas, finite, strict=True) if not ok]
    many = f"{len(bad)}" if len(replicas) == n else f"at least {len(bad)}"
    return Diverged(
        f"{many} of {n} replicas are not finite after {steps} step{'s' * (steps != 1)}, "
        f"the first is replica {bad[0]}; lower learning_rate.lr",
        steps,
    )
