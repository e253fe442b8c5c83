"""What is measured: one quantity a file."""

from dsgd.metrics.accuracy import Accuracy
from dsgd.metrics.consensus import Consensus
from dsgd.metrics.equivalence import Equivalence, probe
from dsgd.metrics.metric import Metric, Snapshot, Split, Values
from dsgd.metrics.perturbation import Perturbation

METRICS: dict[str, type[Metric]] = {
    "consensus": Consensus,
    "accuracy": Accuracy,
    "equivalence": Equivalence,
    "perturbation": Perturbation,
}

__all__ = ["METRICS", "Accuracy", "Consensus", "Equivalence", "Metric", "Perturbation", "Snapshot", "Split", "Values"]
__all__ += ["probe"]
