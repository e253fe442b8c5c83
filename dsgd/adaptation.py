"""Adaptation to a stream without labels, in which inputs drift and classes emerge: our reading of an abstract.

That of Yu, Lu & Zhang 2025, arXiv 2506.05736 (CSFA); it is no reproduction. The parts are prototypes
calibrated without training (the rule of TEEN, Wang et al. 2023, arXiv 2312.05229), and `dsgd.gradients.rsgs` on the
normalisation layers with the recovery of SAR (Niu et al. 2023, arXiv 2302.12400).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import normalize

from dsgd.gradients.rsgs import Rsgs
from dsgd.kernels.batch_norm import batch_norm_class
from dsgd.perturbations import Noise
from dsgd.state import When
from dsgd.wrapping import OfExamples, Within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from dsgd.trees import Params

OF_TORCH = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
NORMALISATION = (*OF_TORCH, batch_norm_class())


class Prototypes(nn.Module):
    """Outputs scale cos(f(x), c_k) of a feature extractor f for the prototypes c (classes, features) of the classes."""

    prototypes: Tensor

    def __init__(self, features: nn.Module, prototypes: Tensor, scale: float = 16.0) -> None:
        super().__init__()
        self.features, self.scale, self.base = features, scale, len(prototypes)
        self.register_buffer("prototypes", normalize(prototypes, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * normalize(self.features(x), dim=1) @ self.prototypes.T

    @torch.no_grad()
    def learn(self, x: Tensor, y: Tensor, alpha: float, tau: float = 16.0) -> None:
        """Adds the classes of a few labelled examples x (N, ...), y (N,), numbered on: their means, calibrated.

        Their features are those in eval mode; they are drawn to the prototypes that the classifier began with.
        """
        training = self.features.training
        known, found = len(self.prototypes), normalize(self.features.eval()(x), dim=1)
        self.features.train(training)
        labels = y.unique()
        if labels.tolist() != list(range(known, known + len(labels))):
            raise ValueError(f"the new classes are {labels.tolist()}; number them on from {known}, the classes known")
        means = normalize(torch.stack([found[y == label].mean(dim=0) for label in labels]), dim=1)
        self.prototypes = torch.cat([self.prototypes, calibrated(means, self.prototypes[: self.base], alpha, tau)])


def calibrated(new: Tensor, base: Tensor, alpha: float, tau: float = 16.0) -> Tensor:
    """(1 - alpha) c + alpha d for each new prototype c, d the mean of the base prototypes weighed by softmax(tau cos).

    All are rows of length 1, also what is returned.
    """
    shared = normalize((tau * new @ base.T).softmax(dim=1) @ base, dim=1)
    return normalize((1 - alpha) * new + alpha * shared, dim=1)


@dataclass
class Csfa:
    """A classifier on a stream: `learn` takes the shots of new classes, `adapt` a batch without labels.

    Of the batch it returns the classes predicted, before it moves the parameters of normalisation layers by SGD with
    `lr` and `momentum` along `gradient`; a batch without a sure example moves nothing. When the moving average of the
    entropies falls below `reset`, a sign of collapse, the parameters, the momentum and the average are as they were at
    the start. Batch normalisation uses the batch's own statistics, unless the module is in eval mode.
    """

    classifier: Prototypes
    gradient: Rsgs = field(default_factory=Rsgs)
    lr: float = 0.002
    momentum: float = 0.9
    calibration: float = 0.1
    reset: float = 0.2
    resets: int = 0
    kept: float = 1.0  # the share of the latest batch that was sure

    def __post_init__(self) -> None:
        self._adapted = {
            f"{at}.{name}": p
            for at, layer in self.classifier.named_modules()
            if isinstance(layer, NORMALISATION)
            for name, p in layer.named_parameters(recurse=False)
        }
        if not self._adapted:
            raise ValueError(
                "the features have no normalisation layer to adapt; take a model with one, such as mlp with norm=batch"
            )
        self._within = Within(self.classifier, self._adapted, None)
        self._start = self._within.read()
        self._steps = 0
        self._begin()

    def _begin(self) -> None:
        self._optimizer = torch.optim.SGD(self._adapted.values(), lr=self.lr, momentum=self.momentum)
        self._memory = self.gradient.init(self._start)
        self._average: float | None = None

    @property
    def adapted(self) -> Params:
        """A copy of the parameters that move, as one row; those set take their place."""
        return self._within.read()

    @adapted.setter
    def adapted(self, p: Params) -> None:
        self._within.write(p)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the classes of a few labelled examples."""
        self.classifier.learn(x, y, self.calibration)

    def adapt(self, x: Tensor) -> Tensor:
        """The classes (B,) predicted for inputs x (B, ...), by which it then adapts."""
        p, nobody = self._within.read(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        objective = OfExamples(self._within, x, nobody)
        with self._within.visit(p, objective.look):
            predicted = objective.logits(p)[0].argmax(dim=1)
            noise, at = Noise(self._steps, ((0, 0),)), When(self._steps, self.lr)
            found = self.gradient.estimate(objective, p, noise, self._memory, at)
        self._steps, self._memory = self._steps + 1, found.memory
        self.kept = float(found.gauges["kept"])
        if self.kept:
            self._within.set_gradients(found.grads)
            self._optimizer.step()
            self._watch(float(found.gauges["entropy"]))
        return predicted

    def _watch(self, entropy: float) -> None:
        self._average = entropy if self._average is None else 0.9 * self._average + 0.1 * entropy
        if self._average < self.reset:
            self._within.write(self._start)
            self._begin()
            self.resets += 1


@dataclass
class Frozen:
    """A classifier on a stream that learns new classes as `Csfa` does, and otherwise stays as it is."""

    classifier: Prototypes
    calibration: float = 0.1
    kept: float = 1.0

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Adds the classes of a few labelled examples."""
        self.classifier.learn(x, y, self.calibration)

    @torch.no_grad()
    def adapt(self, x: Tensor) -> Tensor:
        """The classes (B,) predicted for inputs x (B, ...)."""
        return self.classifier(x).argmax(dim=1)


@dataclass
class Gossiping:
    """Learners that share a stream: each adapts by its part of a batch, and then averages with its neighbours.

    That is D-SGD without labels, adapt then combine: what the learners adapt is mixed by w (m, m), doubly stochastic,
    after every batch. Their momenta and averages of entropies, and the prototypes of new classes, are each one's own.
    """

    learners: Sequence[Csfa | Frozen]
    w: Tensor

    def learn(self, x: Tensor, y: Tensor) -> None:
        """Every learner adds the classes of the same few labelled examples."""
        for learner in self.learners:
            learner.learn(x, y)

    def adapt(self, x: Tensor) -> Tensor:
        """The classes (B,) predicted for inputs x (B, ...), the first B/m of them by the first learner, and so on."""
        parts = x.tensor_split(len(self.learners))
        predicted = torch.cat([learner.adapt(part) for learner, part in zip(self.learners, parts, strict=True)])
        self._mix([learner for learner in self.learners if isinstance(learner, Csfa)])
        return predicted

    @property
    def kept(self) -> float:
        """The share of the latest batch that was sure."""
        return fmean(learner.kept for learner in self.learners)

    def _mix(self, adapting: Sequence[Csfa]) -> None:
        rows = [learner.adapted for learner in adapting]
        if rows:
            mixed = rows[0].like(self.w.to(rows[0].matrix) @ torch.cat([row.matrix for row in rows]))
            for i, learner in enumerate(adapting):
                learner.adapted = mixed.row(i)
