"""Streams of the library river: recorded ones that come with it, and synthetic ones, some of which drift.

Source: Montiel et al. 2021, JMLR 22 (110), whose references to each stream `river.datasets` has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from dsgd.data.examples import DataSet, Examples
from dsgd.knobs import check_least
from dsgd.randomness import generator

RECORDED = {"bananas": "Bananas", "image_segments": "ImageSegments", "phishing": "Phishing", "shuttle": "Shuttle"}
SYNTHETIC: Mapping[str, tuple[int, Callable[[Any, int, int], Any]]] = {  # classes; the stream of a seed, so long
    "sea": (2, lambda synth, seed, size: synth.SEA(seed=seed)),
    "sea_drift": (2, lambda synth, seed, size: _sea_drift(synth, seed, size)),
    "hyperplane_drift": (2, lambda synth, seed, size: synth.Hyperplane(seed, n_drift_features=5, mag_change=0.001)),
    "led": (10, lambda synth, seed, size: synth.LED(seed, noise_percentage=0.1)),
    "rbf": (4, lambda synth, seed, size: synth.RandomRBF(seed, seed, n_classes=4)),
    "rbf_drift": (4, lambda synth, seed, size: synth.RandomRBFDrift(seed, seed, n_classes=4, change_speed=0.0005)),
    "waveform": (3, lambda synth, seed, size: synth.Waveform(seed)),
}
STREAMS = (*RECORDED, *SYNTHETIC)
Numbers = npt.NDArray[np.float64]
LARGEST = 2**20  # examples: a synthetic stream never ends


@dataclass(frozen=True)
class River:
    """The first `train_size` examples of a stream to train on, the `test_size` that follow to test on.

    Inputs (features,) are standardised by the training examples' means and deviations; labels are numbered in their
    order. Another `split` is another draw of a synthetic stream, and another order of a recorded one, whose own is 0's.
    In those named `_drift` the concept changes: sea's half way through, the others' all along. Mini-batches are drawn
    at random, as of any data: what drifts is what is tested on.
    """

    stream: str = "sea_drift"
    train_size: int = 800
    test_size: int = 400
    split: int = 0

    def __post_init__(self) -> None:
        if self.stream not in STREAMS:
            raise ValueError(f"stream is {self.stream}; allowed are {', '.join(STREAMS)}")
        check_least(self, train_size=1, test_size=1, split=0)
        if self.train_size + self.test_size > LARGEST:
            sizes = f"train_size and test_size are {self.train_size} and {self.test_size}"
            raise ValueError(f"{sizes}; give {LARGEST:,} or fewer in all")

    @property
    def alike(self) -> River:
        """The first draw, of the same sizes: runs that differ only in the draw are trained together."""
        return self if self.stream in RECORDED else replace(self, split=0)

    def load(self) -> DataSet:
        """The data set; ImportError without river, ValueError for more examples than a recorded stream has."""
        return _load(self)


@lru_cache(maxsize=64)
def _load(spec: River) -> DataSet:
    x, labels = _stream(spec)
    names = range(SYNTHETIC[spec.stream][0]) if spec.stream in SYNTHETIC else sorted(set(labels))
    trained_on = x[: spec.train_size]
    scale = trained_on.std(axis=0)
    inputs = ((x - trained_on.mean(axis=0)) / np.where(scale > 0, scale, 1)).astype(np.float32)
    y = np.array([names.index(label) for label in labels], np.int64)
    digest = hashlib.sha256(inputs.tobytes() + y.tobytes()).hexdigest()
    train, test = (Examples(inputs[part], y[part]) for part in (slice(len(trained_on)), slice(len(trained_on), None)))
    return DataSet(train, test, len(names), digest)


def _stream(spec: River) -> tuple[Numbers, list[Any]]:
    """All of the examples' inputs, as float64 (examples, features), and their labels, as many as are asked for."""
    size, datasets = spec.train_size + spec.test_size, _library()
    if spec.stream in SYNTHETIC:
        found = list(islice(SYNTHETIC[spec.stream][1](datasets.synth, spec.split, size), size))
    else:
        found = _in_order(list(getattr(datasets, RECORDED[spec.stream])()), spec.split)
    if len(found) < size:
        asked = f"train_size + test_size is {size:,}"
        raise ValueError(f"stream {spec.stream} has {len(found):,} examples and {asked}; take fewer")
    return np.array([list(inputs.values()) for inputs, _ in found[:size]], np.float64), [y for _, y in found[:size]]


def _in_order(found: list[Any], split: int) -> list[Any]:
    if not split:
        return found
    return [found[k] for k in generator(split, "river", "order").permutation(len(found))]


def _sea_drift(synth: Any, seed: int, size: int) -> Any:
    """From one of the functions to another, over a tenth of the examples."""
    before, after = synth.SEA(0, seed=seed), synth.SEA(3, seed=seed + 1)
    return synth.ConceptDriftStream(before, after, position=size // 2, width=max(1, size // 10), seed=seed)


def _library() -> Any:
    try:
        from river import datasets
    except ImportError:
        raise ImportError('task river needs the library river; install it: pip install "dsgd[data]"') from None
    return datasets
