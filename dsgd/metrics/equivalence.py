"""The equivalence of D-SGD and average-direction SAM at an ensemble, as a metric and as a function of any loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from dsgd.curvature import Grads
from dsgd.metrics.consensus import equal_up_to_rounding
from dsgd.metrics.instrument import SHOT_NOISE_OCTAVES, Probe, measure
from dsgd.metrics.metric import Snapshot, Split, Values, check_every
from dsgd.objectives import Batch, Network
from dsgd.trees import Layout, Params, stack

if TYPE_CHECKING:
    from torch import Tensor

EXAMPLES_AT_ONCE = 2**15  # that a block of points is differentiated on, and the parameters that it holds: a ResNet
NUMBERS_AT_ONCE = 2**24  # goes point by point, for its activations are a hundred times its parameters

Loss = Callable[[Mapping[str, "Tensor"]], "Tensor"]


def probe(
    loss: Loss,
    stacked: Mapping[str, Tensor],
    *,
    smooth: bool = True,
    local_losses: Sequence[Loss] | None = None,
    pairs: int = 256,
    block: int = 32,
    seed: int = 0,
) -> dict[str, Any]:
    """How far D-SGD's mean gradient at `stacked` is from average-direction SAM's, in float64.

    `loss` maps one replica's parameters (a dict of tensors) to a scalar and must run in float64; `stacked` holds the
    leaves of n >= 2 replicas, shape (n, ...). With `smooth=False` (ReLU, max-pooling) E over N(0, Xi) is taken by
    `pairs` antithetic draws instead of a cubature. `local_losses` are the replicas' own losses where these differ;
    `loss` is then their mean.

    Returns correction |G_A - g|, residual |G_D - G_A|, ratio residual / correction, cosine, symmetrised_residual,
    half_trace_h_xi and trace_xi at s = 1, limit_ratio and limit_cosine at the smallest s above rounding, `slopes` over
    s, the estimator, and the curves (loss_gap with its sign); None for what is unavailable.
    See `dsgd.metrics.instrument` for the definitions.

    >>> import dsgd, torch
    >>> stacked = {"w": torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -4.0]])}
    >>> found = dsgd.probe(lambda p: (p["w"] ** 3).sum(), stacked)  # of a cubic the two gradients are equal
    >>> found["correction"] > 1, found["residual"] < 1e-12
    (True, True)
    """
    import torch

    _check_stacked(stacked, local_losses)
    p = stack(stacked, torch.float64)
    layout = p.layout
    _check_loss(loss, layout.leaves(p.matrix[0]))
    local = None if local_losses is None else _own_gradients(local_losses, layout)
    instrument = Probe(p.matrix, lambda row: loss(layout.leaves(row)), None, local, block, pairs, seed)
    return measure(instrument, smooth)


def _check_stacked(stacked: Mapping[str, Tensor], local_losses: Sequence[Loss] | None) -> None:
    if not isinstance(stacked, Mapping) or not all(hasattr(leaf, "detach") for leaf in stacked.values()):
        raise ValueError("stacked must be a dict of tensors, each of shape (n, ...), such as {'w': torch.randn(n, d)}")
    replicas = {leaf.shape[0] if leaf.ndim else 0 for leaf in stacked.values()}
    if len(replicas) != 1 or (n := replicas.pop()) < 2:
        raise ValueError("stacked must hold the leaves of the same n >= 2 replicas, each tensor of shape (n, ...)")
    if broken := [name for name, leaf in stacked.items() if not leaf.isfinite().all()]:
        raise ValueError(
            f"stacked[{broken[0]!r}] is not finite; a probe needs the ensemble of a run that did not diverge"
        )
    if local_losses is not None and len(local_losses) != n:
        raise ValueError(f"local_losses holds {len(local_losses)} losses for {n} replicas; give one a replica")


def _check_loss(loss: Loss, leaves: Mapping[str, Tensor]) -> None:
    try:
        value = loss(leaves)
    except KeyError as error:
        raise ValueError(f"loss asks for {error}; the parameters in stacked are {', '.join(leaves)}") from None
    except RuntimeError as error:
        message = f"loss fails on one replica's float64 parameters ({error}); convert its data with .double()"
        raise ValueError(message) from None
    if not hasattr(value, "ndim"):
        given = type(value).__name__
        raise ValueError(f"loss returns a {given}; it must return a scalar tensor that torch can differentiate")
    if value.ndim:
        raise ValueError(f"loss returns a tensor of shape {tuple(value.shape)}; it must return a scalar")


def _own_gradients(losses: Sequence[Loss], layout: Layout) -> Grads:
    import torch
    from torch.func import grad

    def gradients(rows: Tensor) -> Tensor:
        pairs = zip(losses, rows, strict=True)
        return torch.stack([grad(lambda row, own=own: own(layout.leaves(row)))(row) for own, row in pairs])

    return gradients


@dataclass(frozen=True)
class Equivalence:
    """The instrument on the first `probe_size` training examples, the same for all replicas.

    With `own_shards` every replica keeps its own loss, on its share of the probe set drawn from its own shard: the
    setting that theorem 1 does not cover. Names start with `equivalence_` or `own_shards_`; there are none while all
    replicas are equal, up to the rounding of their dtype.
    `scales` are those at which a network with kinks is sampled; a slope takes five of them up to 1/16.
    """

    probe_size: int = 512
    pairs: int = 256
    own_shards: bool = False
    scales: tuple[float, ...] = SHOT_NOISE_OCTAVES
    every: int | None = 0

    apart: ClassVar[tuple[str, ...]] = ("own_shards",)

    def __post_init__(self) -> None:
        check_every(self.every)
        if self.probe_size < 1 or self.pairs < 2:
            raise ValueError(
                f"probe_size is {self.probe_size} and pairs {self.pairs}; they must be at least 1 and at least 2"
            )
        if self.scales[:1] != (1.0,) or not all(high > low > 0 for high, low in pairwise(self.scales)):
            raise ValueError(f"scales is {list(self.scales)}; they must start with 1 and fall, above 0")

    def __call__(self, snapshot: Snapshot) -> Values:
        if equal_up_to_rounding(snapshot.params.matrix):
            return {}
        found = measure(self.instrument(snapshot), snapshot.smooth)
        return _flat("own_shards" if self.own_shards else "equivalence", found)

    def instrument(self, snapshot: Snapshot) -> Probe:
        """The snapshot's ensemble and its loss on the probe set, in float64."""
        rows = snapshot.params.matrix.double()
        split, local = self._probe_set(snapshot)
        return Probe(
            rows,
            _loss_on(snapshot.network, split),
            gradients_on(snapshot.network, split),
            local,
            block=points_at_once(split, rows),
            pairs=self.pairs,
            sampled=self.scales,
            seed=snapshot.seed,
        )

    def _probe_set(self, snapshot: Snapshot) -> tuple[Split, Grads | None]:
        import torch

        if not self.own_shards or snapshot.shards is None:
            return snapshot.train.head(self.probe_size), None
        n = len(snapshot.shards)
        count = min(max(1, self.probe_size // n), *(len(shard) for shard in snapshot.shards))
        chosen = torch.stack([shard[:count] for shard in snapshot.shards])
        own = _gradients(Batch(snapshot.network, snapshot.train.x[chosen].double(), snapshot.train.y[chosen]))
        return Split(snapshot.train.x[chosen.flatten()], snapshot.train.y[chosen.flatten()]), own


def _gradients(batch: Batch) -> Grads:
    return lambda rows: batch.loss_and_grad(Params(rows, batch.network.layout))[1].matrix


def gradients_on(network: Network, split: Split) -> Grads:
    """The gradients of the mean loss on the examples of the split, the same for all points, in float64."""
    return _gradients(Batch(network, split.x.double(), split.y, shared=True))


def points_at_once(split: Split, rows: Tensor) -> int:
    """How many points (d,) are differentiated together on the examples of the split."""
    return max(1, min(EXAMPLES_AT_ONCE // len(split.y), NUMBERS_AT_ONCE // rows.shape[1]))


def _loss_on(network: Network, split: Split) -> Callable[[Tensor], Tensor]:
    x = split.x.double()
    return lambda row: network.losses(row, x, split.y).mean()


def _flat(prefix: str, found: Mapping[str, Any]) -> Values:
    values: Values = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            kind = {"slopes": "slope", "curves": "curve"}[name]
            values |= {f"{prefix}_{kind}_{quantity}": v for quantity, v in value.items()}
        else:
            values[f"{prefix}_{name}"] = value
    return values
