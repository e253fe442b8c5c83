"""A configuration that trains at once, as words of the command line."""

from __future__ import annotations

SMALL = [
    "task=digits",
    "task.train_size=128",
    "model.widths=[4]",
    "topology.n=4",
    "steps=4",
    "measure_every=2",
    "batch_size=4",
]
