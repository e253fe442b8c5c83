"""Part of a data set's training examples in the place of its test examples: what hyper-parameters are chosen on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsgd.data.examples import DataSet, Examples

if TYPE_CHECKING:
    from dsgd.data import DataSource


@dataclass(frozen=True)
class HeldOut:
    """The last `size` training examples of `source` to test on, the others to train on; its test examples are not seen.

    For Python alone: a source within a source has no name in a configuration.
    """

    source: DataSource
    size: int

    def load(self) -> DataSet:
        """The two parts, views of the source's arrays; ValueError unless both have examples."""
        whole = self.source.load()
        count = len(whole.train) - self.size
        if not 0 < count < len(whole.train):
            raise ValueError(f"size is {self.size}; it must be 1 to {len(whole.train) - 1}, so that some are left")
        x, y = whole.train.x, whole.train.y
        train, test = Examples(x[:count], y[:count]), Examples(x[count:], y[count:])
        return DataSet(train, test, whole.classes, whole.sha256, whole.criterion)
