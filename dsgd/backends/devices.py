"""The device that a backend computes on: the CPU, or a GPU where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def check_device(device: str) -> None:
    """ValueError unless it is one of `DEVICES`."""
    if device not in DEVICES:
        raise ValueError(f"device is {device}; allowed are {', '.join(DEVICES)}")


def torch_device(device: str) -> torch.device:
    """The device; ValueError where cuda is asked for and there is none."""
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("device is cuda, but torch sees no GPU here; take auto or cpu")
    return torch.device("cuda" if available and device != "cpu" else "cpu")
