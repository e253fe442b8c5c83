"""How inputs drift: images (N, channels, height, width) seen through noise, less contrast, a turned or brighter camera.

Noise, contrast and brightness are corruptions of Hendrycks & Dietterich 2019, arXiv 1903.12261, without their tables of
strengths. All are pure functions that return new arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dsgd.data.examples import Inputs

Drifted = Callable[[Inputs, float, np.random.Generator], Inputs]


def noise(x: Inputs, strength: float, stream: np.random.Generator) -> Inputs:
    """x + N(0, strength^2), a draw a pixel."""
    return x + np.float32(strength) * stream.standard_normal(x.shape, dtype=np.float32)


def contrast(x: Inputs, strength: float, stream: np.random.Generator) -> Inputs:
    """Each image's deviations from its mean times `strength`."""
    mean = x.mean(axis=(-2, -1), keepdims=True)
    return mean + np.float32(strength) * (x - mean)


def rotation(x: Inputs, strength: float, stream: np.random.Generator) -> Inputs:
    """Turned by `strength` degrees, counterclockwise, bilinearly; what comes in is as dark as the darkest pixel."""
    from scipy.ndimage import rotate

    turned: Inputs = rotate(x, strength, axes=(-1, -2), reshape=False, order=1, cval=float(x.min()))
    return turned


def brightness(x: Inputs, strength: float, stream: np.random.Generator) -> Inputs:
    """x + strength."""
    return x + np.float32(strength)


DRIFTS: dict[str, Drifted] = {"noise": noise, "contrast": contrast, "rotation": rotation, "brightness": brightness}
