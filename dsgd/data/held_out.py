"""Part of a data set's training examples in the place of its test examples: what hyper-parameters are chosen on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsgd.data.examples import DataSet, DataSource, Examples
from dsgd.knobs import check_least


@dataclass(frozen=True)
class HeldOut:
    """The last `size` training examples of `source` to test on, the others to train on; its test set is not seen."""

    source: DataSource
    size: int

    def __post_init__(self) -> None:
        check_least(self, size=1)

    def load(self) -> DataSet:
        """The two parts, views of the source's arrays; ValueError unless some examples are left to train on."""
        whole = self.source.load()
        count = len(whole.train) - self.size
        if count < 1:
            raise ValueError(f"size is {self.size}; it must be 1 to {len(whole.train) - 1}, so that some are left")
        x, y = whole.train.x, whole.train.y
        train, test = Examples(x[:count], y[:count]), Examples(x[count:], y[count:])
        return replace(whole, train=train, test=test)
