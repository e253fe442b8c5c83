"""What a part asks of its knobs, in the sentences that many parts share."""

from __future__ import annotations


def check_least(part: object, **least: float) -> None:
    """ValueError naming the first of the part's knobs given that is below its least value, or not a number."""
    for name, number in least.items():
        if not getattr(part, name) >= number:
            raise ValueError(f"{name} is {getattr(part, name)}; it must be at least {number}")


def check_most(part: object, **most: float) -> None:
    """ValueError naming the first of the part's knobs given that is above its most, which nobody could wait for."""
    for name, number in most.items():
        if getattr(part, name) > number:
            raise ValueError(f"{name} is {getattr(part, name)}; it must be at most {number}")
