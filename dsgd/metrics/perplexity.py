"""How well a language model predicts text of its domain, and of domains on which it was not trained.

Source: as in Sherborne et al. 2024, arXiv 2310.03646, appendix B: perplexity of a token, and its macro mean zero-shot.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from dsgd.data import DataSet, DataSource
from dsgd.metrics.accuracy import evaluate
from dsgd.metrics.metric import Judged, Snapshot, Split, Values, check_every
from dsgd.trees import Params
from topologies.arguments import KnobError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Perplexity:
    """exp(mean test loss) of the mean model, of each replica (their mean), of twins; zero-shot on `others`' test sets.

    `perplexity_WHOSE`, `zero_shot_perplexity_WHOSE` the mean over the others, and `perplexity_of_K_WHOSE` of the K-th;
    a twin's have its name before them.
    """

    others: tuple[DataSource, ...] = ()
    every: int | None = None

    def __post_init__(self) -> None:
        check_every(self.every)

    def check(self, data: DataSet, module: nn.Module) -> None:
        """ValueError where the loss is no cross-entropy, or one of the others has other inputs or classes."""
        if data.criterion != "cross_entropy":
            raise ValueError(
                f"perplexity is exp of a cross-entropy, and the task's loss is {data.criterion}; leave it out"
            )
        for k, other in enumerate(self.others):
            found = other.load()
            if (found.test.shape, found.classes) != (data.test.shape, data.classes):
                theirs, ours = (f"shape {of.test.shape} and {of.classes} classes" for of in (found, data))
                raise KnobError(f"others[{k}]", f"has inputs of {theirs}, the task of {ours}; take data that are alike")

    def __call__(self, snapshot: Snapshot) -> Values:
        judged = snapshot.judged()
        splits = {"perplexity": snapshot.test}
        splits |= {f"perplexity_of_{k}": _test_of(other, snapshot.test) for k, other in enumerate(self.others)}
        values: Values = {}
        ours = {"{}_mean_model": judged.mean, "{}_replicas_mean": judged.replicas}
        for named, params in (ours | {f"{twin}_{{}}": p for twin, p in judged.twins.items()}).items():
            found = {name: _perplexity(judged, params, split) for name, split in splits.items()}
            elsewhere = [value for name, value in found.items() if name != "perplexity"]
            found |= {"zero_shot_perplexity": fmean(elsewhere)} if elsewhere else {}
            values |= {named.format(name): value for name, value in found.items()}
        return values


def _perplexity(judged: Judged, params: Params, split: Split) -> float:
    """The mean over the rows of `params`."""
    return float(evaluate(judged.network, params, split)[0].double().exp().mean())


def _test_of(source: DataSource, like: Split) -> Split:
    import torch

    test = source.load().test
    return Split(torch.from_numpy(test.x).to(like.x), torch.from_numpy(test.y).to(like.y))
