"""How the mean model does on a stream that drifts while classes emerge, frozen or adapting without labels.

Our reading of an abstract, that of Yu, Lu & Zhang 2025, arXiv 2506.05736: the parts are those of `dsgd.adaptation`.
"""

from __future__ import annotations

import math
import re
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

import topologies
from dsgd.data.drift import DRIFTS
from dsgd.data.examples import DataSet, Examples, Inputs, Labels
from dsgd.data.stream import Session, Stream
from dsgd.gradients.gradient import check_choice
from dsgd.gradients.rsgs import Rsgs
from dsgd.knobs import check_least
from dsgd.metrics.metric import Snapshot, Split, Values, check_every

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

    from dsgd.adaptation import Gossiping, Prototypes

Method = Literal["frozen", "tent", "sar", "rsgs"]
Statistics = Literal["batch", "source"]
Marks = dict[str, float | None]

EXAMPLES_AT_ONCE = 2048
TINY = 1e-12


@dataclass(frozen=True)
class Drift:
    """Accuracy of the mean model on a stream of test examples that drift while classes emerge, as `LABEL_accuracy`.

    Of data with `emerging_classes`: in each session the test examples of one class more are streamed, in whole batches
    of `batch_size`, at most `examples`, with a drift: noise, contrast, rotation and brightness in turn. Outputs are 16
    times the cosine of the last linear layer's inputs and a class's prototype: the mean of the training examples, or of
    `shots` test examples that are not streamed, calibrated by `calibration` (0: none). `batch` normalisation
    takes the batch's own statistics, or those of the `source`, the running ones. The `method` moves the normalisation
    layers along the entropies of each batch by SGD (`rho`, `alpha`, `margin` as of the gradient method rsgs; sar is
    without alpha, tent also without rho and margin; at `reset` 0 there is no recovery). With `replicas` each takes its
    part of a batch, and they gossip on the `graph` after it, or not at all if it is "none".

    `accuracy`, `base` and `new` (on the classes trained on and on those that emerged) are means over sessions, of what
    is predicted before the batch adapts anything; `harmonic` is the harmonic mean of the latter two, `sessions` are the
    accuracies, and `kept` is the share of examples that are sure, 1 where none is asked. There are no values without
    classes that emerge. The stream is keyed by the run's seed, and the same for every method.
    """

    label: str = "drift"
    method: Method = "frozen"
    statistics: Statistics = "batch"
    calibration: float = 0.3
    lr: float = 0.002
    momentum: float = 0.9
    rho: float = 0.05
    alpha: float = 0.1
    margin: float = 0.4
    reset: float = 0.0
    replicas: int = 1
    graph: str = "ring"
    shots: int = 5
    drifted_shots: bool = False
    batch_size: int = 64
    examples: int = 1920
    noise: float = 0.2
    contrast: float = 0.49
    rotation: float = 16.0
    brightness: float = 0.3
    every: int | None = 0

    apart: ClassVar[tuple[str, ...]] = ("label",)

    def __post_init__(self) -> None:
        check_every(self.every)
        check_choice("method", self.method, Method)
        check_choice("statistics", self.statistics, Statistics)
        check_least(self, lr=0, rho=0, alpha=0, margin=0, reset=0)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.label):
            raise ValueError(
                f"label is {self.label!r}; it must be of small letters, digits and _, and begin by a letter"
            )
        for name in ("calibration", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 to 1")
        for name in ("replicas", "shots", "batch_size", "examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size % self.replicas or self.batch_size < 2 * self.replicas:
            of = f"a multiple of replicas, {self.replicas}, with at least two examples for each"
            raise ValueError(f"batch_size is {self.batch_size}; it must be {of}")
        if self._gossips:
            topologies.Topology(self.graph, self.replicas)

    def check(self, data: DataSet, module: nn.Module) -> None:
        """ValueError where a session would have too few examples, or a method nothing to adapt."""
        import torch
        from torch import nn

        from dsgd.adaptation import Csfa, Prototypes
        from dsgd.models.cosine import with_output

        known = _known(data.train.y, data.test.y, data.criterion == "cross_entropy")
        if known:
            for _ in self._stream(known, (0.0, 1.0)).sessions(data.test, 0):
                pass
        if known and self.method != "frozen":
            features = with_output(deepcopy(module), lambda last: nn.Identity())
            Csfa(Prototypes(features, torch.zeros(known, 1)), self._gradient())

    def __call__(self, snapshot: Snapshot) -> Values:
        if not _known_to(snapshot):
            return {}
        found: list[Marks] = []
        learners = self.learners(snapshot)
        for session in self.stream(snapshot).sessions(_examples(snapshot.test), snapshot.seed):
            found.append(_marks(learners, session, snapshot))
        return {f"{self.label}_{name}": value for name, value in _summary(found).items()}

    def stream(self, snapshot: Snapshot) -> Stream:
        """The same for every method, keyed by the run's seed."""
        within = float(snapshot.test.x.min()), float(snapshot.test.x.max())
        return self._stream(_known_to(snapshot), within)

    def _stream(self, known: int, within: tuple[float, float]) -> Stream:
        strengths = {name: getattr(self, name) for name in DRIFTS}
        return Stream(strengths, known, self.shots, self.batch_size, self.examples, within, self.drifted_shots)

    def learners(self, snapshot: Snapshot) -> Gossiping:
        """Copies of the mean model, each with its own layers to adapt."""
        import torch

        from dsgd.adaptation import Csfa, Frozen, Gossiping

        start = classifier(snapshot)
        start.train(self.statistics == "batch")
        copies = [deepcopy(start) for _ in range(self.replicas)]
        w = torch.from_numpy(self._w())
        if self.method == "frozen":
            return Gossiping([Frozen(copy, self.calibration) for copy in copies], w)
        knobs = self._gradient(), self.lr, self.momentum, self.calibration, self.reset
        return Gossiping([Csfa(copy, *knobs) for copy in copies], w)

    def _gradient(self) -> Rsgs:
        if self.method == "tent":
            return Rsgs(rho=0.0, alpha=0.0, margin=math.inf)
        return Rsgs(self.rho, self.alpha if self.method == "rsgs" else 0.0, self.margin)

    @property
    def _gossips(self) -> bool:
        return self.replicas > 1 and self.graph != "none"

    def _w(self) -> npt.NDArray[np.float64]:
        if not self._gossips:
            return np.eye(self.replicas)
        return topologies.Topology(self.graph, self.replicas).matrix().sparse().toarray()


def classifier(snapshot: Snapshot) -> Prototypes:
    """The mean model without its last linear layer, and the training classes' mean directions there as prototypes."""
    import torch
    from torch import nn
    from torch.nn.functional import normalize

    from dsgd.adaptation import Prototypes
    from dsgd.models.cosine import with_output

    judged = snapshot.judged()
    module = deepcopy(judged.network.module).to(judged.mean.matrix.dtype).eval()
    module.load_state_dict({name: leaf[0] for name, leaf in judged.mean.items()})
    features = with_output(module, lambda last: nn.Identity())
    with torch.no_grad():
        found = torch.cat([normalize(features(x), dim=1) for x in snapshot.train.x.split(EXAMPLES_AT_ONCE)])
    means = [found[snapshot.train.y == label].mean(dim=0) for label in range(_known_to(snapshot))]
    return Prototypes(features, torch.stack(means))


def _known_to(snapshot: Snapshot) -> int:
    return _known(snapshot.train.y.cpu().numpy(), snapshot.test.y.cpu().numpy(), snapshot.network.classifies)


def _known(train: Labels, test: Labels, classifies: bool) -> int:
    """The number of classes trained on, where others are in the test split alone; else 0."""
    known, held_out = np.unique(train).tolist(), np.unique(test).tolist()
    emerge = classifies and known == held_out[: len(known)] != held_out
    return len(known) if emerge and known == list(range(len(known))) else 0


def _examples(split: Split) -> Examples:
    return Examples(split.x.cpu().numpy(), split.y.cpu().numpy())


def _marks(learners: Gossiping, session: Session, snapshot: Snapshot) -> Marks:
    """Shares of a session's examples: those right, of all, of the classes trained on and of the others; those sure."""
    import torch

    def there(x: Inputs) -> Tensor:
        return torch.from_numpy(x).to(snapshot.test.x)

    learners.learn(there(session.shots.x), torch.from_numpy(session.shots.y).to(snapshot.test.y))
    right, kept = [], []
    for batch in session.batches:
        right.append(learners.adapt(there(batch.x)).cpu().numpy() == batch.y)
        kept.append(learners.kept)
    hits, base = np.concatenate(right), np.concatenate([batch.y for batch in session.batches]) < _known_to(snapshot)
    parts = {"accuracy": hits, "base": hits[base], "new": hits[~base], "kept": np.array(kept)}
    return {name: float(part.mean()) if len(part) else None for name, part in parts.items()}


def _summary(sessions: list[Marks]) -> Values:
    """Means over the sessions that have a value, and the accuracy of each."""
    found = {name: [v for session in sessions if (v := session[name]) is not None] for name in sessions[0]}
    means = {name: fmean(values) if values else None for name, values in found.items()}
    base, new = means["base"], means["new"]
    harmonic = None if base is None or new is None else 2 * base * new / max(base + new, TINY)
    return {**means, "harmonic": harmonic, "sessions": list(found["accuracy"])}
