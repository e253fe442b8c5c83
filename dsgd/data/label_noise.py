"""Label noise: a share of the training labels drawn anew from all classes, as Foret et al. 2021 (arXiv 2010.01412) do.

The test labels stay as they are, so that what is memorised of the noise is no help there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.randomness import generator


@dataclass(frozen=True)
class LabelNoise:
    """`source` with a `share` of its training labels drawn anew, uniformly from all classes, the right one included.

    Which and to what is keyed by `draw`; a larger share changes those of a smaller one, in the same way, and others.
    """

    source: DataSource
    share: float = 0.4
    draw: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be in [0, 1], the share of labels drawn anew")
        if self.draw < 0:
            raise ValueError(f"draw is {self.draw}; it must be at least 0")

    def load(self) -> DataSet:
        """The source's arrays, but for the training labels. ValueError where it has no classes to draw from."""
        return _load(self)


@lru_cache(maxsize=8)
def _load(spec: LabelNoise) -> DataSet:
    whole = spec.source.load()
    if whole.criterion != "cross_entropy":
        name = type(spec.source).__name__
        raise ValueError(f"the criterion of {name} is {whole.criterion}; take data with labels that can be drawn anew")
    stream = generator(spec.draw, "label_noise")
    y, count = whole.train.y.copy(), len(whole.train)
    drawn = stream.permutation(count)
    labels, some = stream.integers(whole.classes, size=count), round(spec.share * count)
    y[drawn[:some]] = labels[:some]
    return replace(whole, train=Examples(whole.train.x, y))
