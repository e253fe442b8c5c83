"""What the sizes of a model may be, and what it asks of its inputs."""

from __future__ import annotations

from topologies.arguments import KnobError

MOST_NUMBERS = 2**26


def check_positive(name: str, sizes: tuple[int, ...]) -> None:
    """ValueError unless every one of the knob's `sizes` is at least 1."""
    if min(sizes, default=1) < 1:
        raise ValueError(f"{name}={sizes} is not possible: every number must be at least 1.")


def check_count(knob: str, numbers: int, says: str = "") -> None:
    """KnobError of the knob where a model is drawn of more numbers than fit into a machine, before any is drawn."""
    if numbers > MOST_NUMBERS:
        raise KnobError(knob, f"{says or f'{knob} is'} {numbers}; it must be at most {MOST_NUMBERS}")


def check_image(shape: tuple[int, ...], model: str) -> None:
    """ValueError unless `shape` is (channels, height, width)."""
    if len(shape) != 3:
        raise ValueError(
            f"The {model} model needs images of shape (channels, height, width), but the inputs have shape {shape}: "
            "use the linear, mlp or two_layer model."
        )


def check_tokens(shape: tuple[int, ...], model: str) -> None:
    """ValueError unless `shape` is (context,)."""
    if len(shape) != 1:
        raise ValueError(
            f"The {model} model needs windows of tokens, of shape (context,), but the inputs have shape {shape}: use "
            "it with the task text."
        )


def check_norm(norm: str, allowed: tuple[str, ...]) -> None:
    """ValueError unless the normalisation is one of those allowed."""
    if norm not in allowed:
        raise ValueError(f"norm is {norm}; allowed are {', '.join(allowed)}")
