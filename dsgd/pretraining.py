"""What happens to a model's start before the run: nothing, or a single model's training on data of its own by Adam."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from dsgd.data import DataSet, DataSource
from dsgd.data.sampling import reshuffled_passes
from dsgd.knobs import check_least
from dsgd.models import Model
from dsgd.randomness import Key, stream_key
from dsgd.tasks import module_for
from dsgd.threads import torch_threads

if TYPE_CHECKING:
    from torch import Tensor, nn

_DRAWING = Lock()  # modules draw their weights from torch's one generator
STARTS_KEPT = 64  # a study's runs begin where others of the same seed do


class Pretraining(Protocol):
    """`start` is a model's start for a run's data, on the CPU; `whose` is empty, or a replica's number.

    One that does not fit all data has `check(data)`, which raises ValueError before the run.
    """

    def start(self, model: Model, data: DataSet, seed: int, *whose: Key) -> nn.Module: ...


@dataclass(frozen=True)
class Scratch:
    """Nothing: the run begins at the model's random start."""

    def start(self, model: Model, data: DataSet, seed: int, *whose: Key) -> nn.Module:
        """The model at the random start of the seed, or of one replica; the same on every device."""
        import torch

        with _DRAWING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_key(seed, "start", *whose))
            return module_for(model, data)


@dataclass(frozen=True)
class Pretrained:
    """`steps` of Adam (0.9, 0.99) on mini-batches of `data`, by cross-entropy, from the random start of the run's seed.

    In float32 on one core of the CPU, whatever the run's own. It counts for nothing in the run's steps and bytes.
    """

    data: DataSource
    steps: int = 3000
    batch_size: int = 64
    lr: float = 1e-3

    def __post_init__(self) -> None:
        check_least(self, steps=1, batch_size=1)
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it must be greater than 0")

    def start(self, model: Model, data: DataSet, seed: int, *whose: Key) -> nn.Module:
        """The model where its training ends, but for what it holds of the data themselves."""
        module = Scratch().start(model, data, seed, *whose)
        module.load_state_dict(_trained(_Start(self, model, seed, whose)), strict=False)
        return module

    def check(self, data: DataSet) -> None:
        """ValueError where a run's data are not like those that are trained on."""
        own = self.data.load()
        if _kind(own) != _kind(data) or own.criterion != "cross_entropy":
            raise ValueError(
                f"its data have {_said(own)}, the run's {_said(data)}; take data that are alike, under cross_entropy"
            )


@dataclass(frozen=True)
class _Start:
    """All that decides a pre-trained start."""

    by: Pretrained
    model: Model
    seed: int
    whose: tuple[Key, ...]


def _kind(data: DataSet) -> tuple[tuple[int, ...], int, str]:
    return data.train.shape, data.classes, data.criterion


def _said(data: DataSet) -> str:
    return f"inputs of shape {data.train.shape}, {data.classes} classes and the loss {data.criterion}"


@lru_cache(maxsize=STARTS_KEPT)
def _trained(start: _Start) -> dict[str, Tensor]:
    import torch
    from torch.nn.functional import cross_entropy

    by, data = start.by, start.by.data.load()
    module = Scratch().start(start.model, data, start.seed, *start.whose)
    optimizer = torch.optim.Adam(module.parameters(), lr=by.lr, betas=(0.9, 0.99))
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    order = reshuffled_passes(len(y), 0, by.steps * by.batch_size, start.seed, "pretraining", *start.whose)
    with torch.enable_grad(), torch_threads(1):  # as many threads everywhere, so that the last bits are the same
        for batch in torch.from_numpy(order).view(by.steps, by.batch_size):
            optimizer.zero_grad()
            cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()
    return {name: leaf.detach() for name, leaf in module.named_parameters()}


PRETRAININGS: dict[str, type[Pretraining]] = {"scratch": Scratch, "pretrained": Pretrained}
