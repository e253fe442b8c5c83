"""Sizes that lie: whatever is asked for, a dry run answers soon, and takes no memory that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from guarded import answered

from dsgd.cli import estimates

MOST_BYTES = 2 * 2**30  # that a dry run takes beside what is there
HUGE, LARGE = 10**12, 10**9
NO_DATA = "task=no_data batch_size=full "
METRICS = {
    "curvature": ("eigenvalues", "probes", "examples"),
    "sharpness": ("samples",),
    "uncertainty": ("samples", "bins"),
    "landscape": ("points",),
    "smoothing": ("pairs", "points", "directions"),
    "stability_edge": ("products",),
    "equivalence": ("probe_size", "pairs"),
    "features": ("units",),
    "drift": ("shots", "examples", "batch_size"),
    "accuracy": ("train_examples",),
}
ASKED = [
    *(f"model.widths=[{width},{width}]" for width in (10**4, 10**5, 10**6, LARGE, HUGE)),
    f"model.widths=[{HUGE}]",
    f"model.widths=[{','.join(['4'] * 20_000)}]",
    f"model=cnn model.channels=[{10**6},{10**6}]",
    f"model=two_layer model.width={HUGE}",
    f"model=sim_bn model.width={HUGE}",
    "model=cosine model.features={name: mlp, widths: [1000000000]}",
    f"{NO_DATA}model=quadratic model.dimension={HUGE}",
    f"{NO_DATA}model=quadratic_regression model.parameters={LARGE}",
    f"{NO_DATA}model=quadratic_regression model.outputs={LARGE} model.parameters={10**5}",
    f"task=text model=transformer model.width={LARGE}",
    f"task=text model=transformer model.depth={LARGE}",
    f"task=text model=neural_lm model.embedding={HUGE}",
    f"task=text task.context={LARGE}",
    f"task=text task.train_size={LARGE}",
    f"task=xor task.dimension={LARGE}",
    f"task=xor task.train_size={HUGE}",
    f"task=digits task.train_size={HUGE}",
    f"task=river task.test_size={10**8}",
    "task={name: long_tail, source: digits, largest: 1000000000000}",
    *(f"topology.graph=ring topology.n={n}" for n in (2**20 + 1, LARGE, HUGE)),
    *(f"topology.graph={graph} topology.n={2**20}" for graph in ("complete", "barbell", "exponential", "hypercube")),
    "topology={graph: complete, n: 100000, weights: lazy}",
    "topology={graph: {name: erdos_renyi, p: 0.5}, n: 100000}",
    "topology={graph: {name: erdos_renyi, p: 1e-9}, n: 20000}",
    "topology={graph: {name: watts_strogatz, k: 100000}, n: 1048576}",
    "topology={graph: {name: random_regular, degree: 10000}, n: 100000}",
    "topology={graph: {name: random_geometric, radius: 2}, n: 100000}",
    "topology={n: 4, schedule: {name: periodic, every: 1000000000000, inner: static}}",
    "topology={n: 4, weights: fdla, graph: {name: ring}} topology.n=3000",
    "gradient={name: weight_diversity, source: {name: stationary, n: 100000, graph: complete}}",
    *(f"steps={HUGE} learning_rate={name}" for name in ("constant", "cosine", "multistep")),
    f"steps={HUGE} gradient=gsam learning_rate=cosine",
    f"steps={HUGE} gossip=adaptive",
    f"batch_size={HUGE}",
    f"gossip=repeated gossip.times={LARGE}",
    *(f"gradient={name} gradient.samples={HUGE}" for name in ("average_direction", "weight_diversity")),
    *(f"metrics=[{{name: {name}, {knob}: {HUGE}}}]" for name, knobs in METRICS.items() for knob in knobs),
    f"pretraining=pretrained pretraining.data=digits pretraining.steps={HUGE}",
    f"pretraining=pretrained pretraining.data=digits pretraining.batch_size={HUGE}",
    f"task=digits task.partition=by_label task.partition.labels_per_replica={HUGE}",
    f"task=digits task.partition=dirichlet task.partition.min_partition_size={HUGE}",
    "task=digits task.partition=dirichlet task.partition.alpha=1e300",
    "task=digits task.partition=dirichlet task.partition.alpha=1e-300",
    f"seed={10**17} local_steps={10**17} measure_every={10**17}",
    f"backend=processes backend.actors={LARGE}",
]


def words(asked: str) -> list[str]:
    """Parted at the spaces before a key."""
    found: list[str] = []
    for word in asked.split(" "):
        if "=" in word or not found:
            found.append(word)
        else:
            found[-1] += f" {word}"
    return found if any(word.startswith("task=") for word in found) else ["task=digits", *found]


def peak(anew: bool = False) -> int:
    """The most bytes of memory that this process has had, since it was asked `anew`; Linux says so, and 0 elsewhere."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked[:60])
def test_a_dry_run_is_quick_whatever_is_asked(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answered(["run", "task=digits", "steps=2", "--dry-run"], 60)  # what is imported at first use
    for name in ("SECONDS_FOR_FIRST", "SECONDS_FOR_STEPS", "SECONDS_FOR_METRICS"):
        monkeypatch.setattr(estimates, name, 0.3)
    before = peak(anew=True)
    answer = answered(["run", *words(asked), "--dry-run"], seconds=6)
    assert answer.faults() == []
    assert peak() - before < MOST_BYTES
    assert list(tmp_path.iterdir()) == []
