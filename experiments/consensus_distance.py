"""How far apart does gossip keep the replicas?

Question   Under gradient noise alone, is the replicas' covariance the one that linear theory gives for the graph?
Claim      Tr Ξ = lr² σ² S(P), S(P) from a Lyapunov equation: (1/n) sum 1 / (1 − λ²) over the eigenvalues of a symmetric
           P but its first for the order `consensus`, and with λ² in the numerator for `adapt_then_combine`.
Source     Linear theory, as in Zhu et al. 2023 (arXiv 2306.02913) and Vogels et al. 2022; our derivation of S(P).
Measured   A flat loss of 1,000 parameters with additive Gaussian noise: Tr Ξ averaged over 50 relaxation times of the
           slowest graph mode, after ten that are not counted.
Controls   S(P) of the other order must be missed, or the bar of 5 % could not tell the orders apart.
Expect     All supported, with errors of half a per cent.
Seeds      Criteria were set on seeds 0 to 9 and are judged on seeds from 100 on.
Takes      smoke 5 seconds; standard half a minute on 2 cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import topologies
from dsgd import histories
from dsgd.data import NoData
from dsgd.histories import Histories, seeds_of
from dsgd.metrics import Consensus
from dsgd.models import Quadratic
from dsgd.run import Run
from dsgd.study import Claim, Report, Table
from dsgd.tasks import Task
from topologies import Static, Topology
from topologies.spectral import Order

question = "Is the spread of the replicas under gradient noise the one that linear theory gives for the graph?"

ORDERS: tuple[Order, Order] = ("consensus", "adapt_then_combine")
RELAXATIONS, SETTLING = 60, 10  # of the slowest graph mode; those at the start are not counted
SYMBOLS = {
    "Xi": "covariance of the replicas' deviations from their mean; its trace is the squared consensus distance",
    "P, n": "the mixing matrix and the number of replicas",
    "S(P)": "Tr Xi / (lr^2 sigma^2) in linear theory, for gradient noise of variance sigma^2 (its trace)",
}


@dataclass(frozen=True)
class Settings:
    """What a preset fixes."""

    seeds: int = 5
    seed: int = 100
    graphs: tuple[str, ...] = tuple(topologies.GRAPHS)
    n: int = 16
    dimension: int = 1000


presets = {"smoke": Settings(seeds=2, seed=0, graphs=("ring", "star"), n=8, dimension=500), "standard": Settings()}


def runs(settings: Settings) -> dict[str, Run]:
    """Every run of the study by its label, which ends with the seed."""
    return {
        f"noise {graph} {order} {seed}": _noise_only(settings, graph, order, seed)
        for graph in settings.graphs
        for order in ORDERS
        for seed in seeds_of(settings)
    }


def _noise_only(settings: Settings, graph: str, order: str, seed: int) -> Run:
    """A flat loss: only noise and gossip."""
    relaxation = 1 / topologies.spectral_gap(_topology(settings, graph).matrix())
    return Run(
        task=Task(NoData()),
        model=Quadratic(settings.dimension),
        topology=Static(_topology(settings, graph)),
        algorithm=order,
        batch_size="full",
        gradient_noise=1.0,
        steps=round(RELAXATIONS * relaxation),
        seed=seed,
        measure_every=max(1, round(relaxation / 4)),
        metrics=(Consensus(),),
    )


def _topology(settings: Settings, graph: str) -> Topology:
    return Topology(graph, settings.n)


def report(settings: Settings, found: Histories) -> Report:
    """The claims, and the table behind them."""
    claims = [*_claims(settings, found), *_controls(settings, found)]
    columns = ("graph", "n", "order", "S(P)", "Tr Ξ / (lr² σ²)", "error, %", "seeds")
    rows = [_row(settings, found, graph, order) for graph in settings.graphs for order in ORDERS]
    table = Table("Linear theory and simulation", columns, rows, "Means over seeds.")
    return Report(claims, (table,), answer=_answer(rows), definitions=SYMBOLS)


def _claims(settings: Settings, found: Histories) -> Iterator[Claim]:
    criterion = "worst relative error of Tr Ξ / (lr² σ²) against S(P) over the graphs is at most 5 %"
    for order in ORDERS:
        errors = [_errors(settings, found, graph, order, order) for graph in settings.graphs]
        worst = histories.sample(zip(*errors, strict=True), max)
        yield worst.claim(f"consensus distance: {order}", "claim", None, 0.05, criterion)


def _controls(settings: Settings, found: Histories) -> Iterator[Claim]:
    for order, other in (ORDERS, ORDERS[::-1]):
        errors = [_errors(settings, found, graph, order, other) for graph in settings.graphs]
        least = histories.sample(zip(*errors, strict=True), min)
        criterion = f"least relative error against S(P) of {other} over the graphs is above 5 %"
        yield least.claim(f"{order} by the other order's theory", "control", 0.05, None, criterion)


def _errors(settings: Settings, found: Histories, graph: str, order: Order, theory: Order) -> list[float]:
    """One a seed: |measured / theory − 1|, or what was measured where theory says zero."""
    expected = topologies.stationary_consensus(_topology(settings, graph).matrix(), theory)
    measured = _measured(found, graph, order)
    return [abs(value / expected - 1) if expected else value for value in measured]


def _measured(found: Histories, graph: str, order: str) -> list[float]:
    """One a seed: the time average of Tr Ξ / (lr² σ²)."""
    return [_time_average(rows) for rows in histories.select(found, f"noise {graph} {order}")]


def _time_average(rows: histories.History) -> float:
    settled = rows[-1]["step"] * SETTLING / RELAXATIONS
    return fmean(row["trace_xi"] / row["lr"] ** 2 for row in rows if row["step"] > settled)


def _row(settings: Settings, found: Histories, graph: str, order: Order) -> tuple[str | float, ...]:
    topology, measured = _topology(settings, graph), _measured(found, graph, order)
    theory = topologies.stationary_consensus(topology.matrix(), order)
    error = abs(fmean(measured) / theory - 1) if theory else fmean(measured)
    return graph, topology.n, order, theory, fmean(measured), 100 * error, len(measured)


def _answer(rows: list[tuple[str | float, ...]]) -> str:
    """What was found, in words and measured numbers."""
    worst = max(rows, key=lambda row: float(row[5]))
    mean = fmean(float(row[5]) for row in rows)
    return (
        f"Over {len(rows)} pairs of a graph and an order of operations, linear theory misses the simulated spread by "
        f"{mean:.2f} % on average and by {worst[5]:.2f} % at most ({worst[0]}, {worst[2]})."
    )
