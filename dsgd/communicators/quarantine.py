"""A communicator that lets nobody hear a replica that is not finite: the others go on among themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import topologies
from dsgd.communicators.communicator import Communicator
from dsgd.trees import Layout, Params, Scaled
from topologies import Identity, Mean, MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor

FLAG = Layout(("finite",), ((1,),))


class Quarantine:
    """What `inner` does, for the replicas whose rows are finite; those that are not keep their own rows."""

    def __init__(self, inner: Communicator) -> None:
        self.inner, self.n, self.rows, self.leads = inner, inner.n, inner.rows, inner.leads

    @property
    def bytes_crossed(self) -> int:
        return self.inner.bytes_crossed

    @property
    def dropped(self) -> int:
        return self.inner.dropped

    def begin(self, p: Params, w: MixingMatrix) -> None:
        """Nothing: who is heard is known only when all rows have been looked at."""

    def mix(self, p: Params, w: MixingMatrix, plus: Scaled | None = None) -> Params:
        here, everywhere = self._finite(p)
        if isinstance(w, Identity) or everywhere.all():
            return self.inner.mix(p, w, plus)
        sound = p.like(p.matrix.masked_fill(~here, 0))  # zero times NaN is NaN
        if isinstance(w, Mean):
            mixed = self.inner.mix(sound, w).matrix * (self.n / everywhere.sum())
            mixed = mixed if plus is None else (p.like(mixed) + plus).matrix
        else:
            mixed = self.inner.mix(sound, topologies.isolated(w, _places(~everywhere)), plus).matrix
        return p.like(mixed.where(here, p.matrix))

    def gather(self, p: Params) -> Params:
        return self.inner.gather(p)

    def collect(self, p: Params) -> Params | None:
        return self.inner.collect(p)

    def await_leader(self) -> None:
        self.inner.await_leader()

    def _finite(self, p: Params) -> tuple[Tensor, Tensor]:
        """Whose rows are finite: of the replicas here (rows, 1), and of all (n,)."""
        here = p.matrix.isfinite().all(dim=1, keepdim=True)
        return here, self.inner.gather(Params(here, FLAG)).matrix.flatten()


def _places(flags: Tensor) -> list[int]:
    places: list[int] = flags.nonzero().flatten().tolist()
    return places


def finite_rows(p: Params) -> Params:
    """The rows that are finite."""
    return p.like(p.matrix[p.matrix.isfinite().all(dim=1)])
