"""The order of the three moves of a decentralized step: estimate a gradient, turn it into an update, mix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsgd.gossip import Mix
from dsgd.state import State
from dsgd.trees import Params, Scaled


@dataclass(frozen=True)
class Step:
    """The moves of one step. `estimate` and `update` also return the state with its memories moved on.

    `mix(p)` is what gossip makes of p over the replicas, W_t p unless the run says otherwise, and `mix(p, u)` the same
    plus u; `average(p)` is every replica's value replaced by the mean over all.
    """

    estimate: Callable[[State], tuple[State, Params]]
    update: Callable[[State, Params], tuple[State, Scaled]]
    mix: Mix
    average: Callable[[Params], Params]


Algorithm = Callable[[State, Step], State]


def consensus(state: State, step: Step) -> State:
    """W w + u(g(w)): the gradient at the unmixed replica, applied to the mixed one.

    Lian et al. 2017 (arXiv 1705.09056), algorithm 1; the D-SGD of Zhu et al. 2023 (arXiv 2306.02913).
    """
    state, grads = step.estimate(state)
    state, update = step.update(state, grads)
    return state.at(step.mix(state.params, update))


def adapt_then_combine(state: State, step: Step) -> State:
    """W (w + u(g(w))): diffusion, Sayed 2014; on the complete graph it is centralized SGD."""
    state, grads = step.estimate(state)
    state, update = step.update(state, grads)
    return state.at(step.mix(state.params + update))


def combine_then_adapt(state: State, step: Step) -> State:
    """v + u(g(v)), v = W w: the gradient is taken at the mixed replica."""
    state = state.at(step.mix(state.params))
    state, grads = step.estimate(state)
    state, update = step.update(state, grads)
    return state.at(state.params + update)


def centralized(state: State, step: Step) -> State:
    """w + u(mean of all replicas' g): every replica takes the same step; no graph is used."""
    state, grads = step.estimate(state)
    state, update = step.update(state, step.average(grads))
    return state.at(state.params + update)


MIX_FIRST = ("consensus", "combine_then_adapt")  # what they mix is the state they start from, known before all else

ALGORITHMS: dict[str, Algorithm] = {
    "consensus": consensus,
    "adapt_then_combine": adapt_then_combine,
    "combine_then_adapt": combine_then_adapt,
    "centralized": centralized,
}
