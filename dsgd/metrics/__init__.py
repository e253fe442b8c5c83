"""What is measured: one quantity a file."""

from dsgd.metrics.accuracy import Accuracy
from dsgd.metrics.consensus import Consensus
from dsgd.metrics.equivalence import Equivalence, probe
from dsgd.metrics.gauges import Gauges
from dsgd.metrics.merging import Merging
from dsgd.metrics.metric import Metric, Snapshot, Split, Values

METRICS: dict[str, type[Metric]] = {
    "consensus": Consensus,
    "accuracy": Accuracy,
    "equivalence": Equivalence,
    "gauges": Gauges,
    "merging": Merging,
}

__all__ = [
    "METRICS",
    "Accuracy",
    "Consensus",
    "Equivalence",
    "Gauges",
    "Merging",
    "Metric",
    "Snapshot",
    "Split",
    "Values",
]
__all__ += ["probe"]
